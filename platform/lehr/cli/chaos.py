"""`lehr chaos`: a job under named faults, beside the same job without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lehr.chaos.faults import Fault
    from lehr.plan import Plan
    from lehr.store import Store

File = Annotated[str, typer.Argument(metavar="FILE", help="The job: a YAML file, or a URL of one.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key; the value is YAML. May be repeated."),
]
Storage = Annotated[
    str | None, typer.Option(metavar="URL", help="Where both runs are kept; default: a temporary folder.")
]
Local = Annotated[bool, typer.Option("--local", help="Without Ray: workers are processes of this machine.")]
KillRank = Annotated[
    list[str] | None,
    typer.Option(metavar="RANK@step=S", help="Kill a worker when S steps are done. May be repeated."),
]
StoreFault = Annotated[
    list[str] | None,
    typer.Option(
        "--store",
        metavar="KIND:DURATION@step=S",
        help="The store fails: 503, 500, 403, refuse, hang, slow:4x, slow:200KB/s, cut, lost (done, but the "
        "answer is lost); for 30s, 2m or always; without @step from the start. May be repeated.",
    ),
]
Tracker = Annotated[
    str | None,
    typer.Option(
        "--wandb",
        metavar="down[:DURATION[@step=S]]",
        help="W&B cannot be reached: down, or down:30s@step=20 before your own W&B.",
    ),
]
SlowRank = Annotated[
    list[str] | None,
    typer.Option(metavar="RANK:FACTORx", help="Each step of a worker takes longer. May be repeated."),
]


def chaos(
    file: File,
    sets: Set = None,
    storage: Storage = None,
    local: Local = False,
    kill_rank: KillRank = None,
    store: StoreFault = None,
    wandb: Tracker = None,
    slow_rank: SlowRank = None,
) -> None:
    """Train a job twice on this machine, undisturbed and under faults, and compare the results.

    A fault at step S strikes when S updates are done. Exit codes: 0 completed and equal; 1 not; 2 a mistake
    in the job or in a fault; 128 + the signal's number when a signal stopped it.
    """
    from lehr import plan as plans
    from lehr import spec as specs
    from lehr.chaos import faults, texts
    from lehr.cli import sweeping
    from lehr.launch import admission

    named: list[Fault] = [texts.kill(text) for text in kill_rank or ()]
    named += [texts.outage(text) for text in store or ()]
    named += [texts.tracker(wandb)] if wandb else []
    named += [texts.slow(text) for text in slow_rank or ()]
    job = specs.load(file, sets or ())
    sweeping.refuse_search(job, file, command="chaos")
    plan = plans.make(job)
    faults.check(named, plan)
    admission.require(plan)
    place = _place(storage, plan) if storage else None
    raise typer.Exit(_both(plan, named, place, local=local))


def _place(url: str, plan: Plan) -> Store:
    """The storage that was named, if both runs can be there."""
    from lehr import store as stores
    from lehr.launch import admission

    storage = stores.connect(url, plan.storage_options())
    admission.visible(storage)
    stores.probe(storage)
    return storage


def _both(plan: Plan, named: list[Fault], place: Store | None, *, local: bool) -> int:
    """Run both; the exit code."""
    import shutil

    from lehr import store as stores
    from lehr.chaos import comparison, pair, report, surroundings
    from lehr.chaos.board import Board

    key, own = surroundings.api_key(plan, named), pair.folder()
    storage = place or stores.connect(str(own / "runs"))
    plans = pair.variants(plan, storage, named)
    board = Board.make(own / "board", named)
    with pair.spoken() as say:
        calm = pair.undisturbed(plans[0], storage, local=local, say=say)
        hit = calm
        if calm.signal is None:
            hit = pair.disturbed(plans[1], storage, board, key, local=local, say=say)
        if hit.signal is not None:
            say(f"stopped; what there is: {own} and {storage.url}")
            return 128 + hit.signal
        lines = comparison.compare(plan, calm.run, hit.run)
        say(report.text(board, (calm, hit), pair.attempts(hit.run), lines))
        good = report.good(board, hit, lines)
        if good:
            shutil.rmtree(own, ignore_errors=True)
        if place or not good:
            say(f"both runs are kept: {calm.run.url} and {hit.run.url}")
    return 0 if good else 1
