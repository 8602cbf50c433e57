"""`lehr run`: train a job, in the foreground."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lehr.cli.progress import Terminal
    from lehr.plan import Plan
    from lehr.spec import Spec
    from lehr.store import Store
    from lehr.worker.outcome import Outcome

File = Annotated[str, typer.Argument(metavar="FILE", help="The job: a YAML file, or a URL of one.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key; the value is YAML. May be repeated."),
]
RunId = Annotated[str | None, typer.Option("--run", metavar="ID", help="The run's name; default: the job's.")]
Address = Annotated[
    str | None,
    typer.Option(metavar="URL", envvar="RAY_ADDRESS", help="A running Ray cluster; default: one of its own."),
]
Local = Annotated[bool, typer.Option("--local", help="Without Ray: workers are processes of this machine.")]
Storage = Annotated[str | None, typer.Option(metavar="URL", help="Where runs are kept; default: as in FILE.")]


def run(
    file: File,
    sets: Set = None,
    run_id: RunId = None,
    address: Address = None,
    local: Local = False,
    storage: Storage = None,
) -> None:
    """Train a job. The same command again continues it from its last checkpoint.

    Ctrl-C stops it cleanly with a checkpoint; a second one kills it. Exit codes: 0 trained; 1 it failed; 2 a
    mistake in the job; 128 + the signal's number when a signal stopped it (130 for Ctrl-C).
    """
    from lehr import spec as specs
    from lehr.cli import sweeping

    job = specs.load(file, [*(sets or ()), *([f"storage={storage}"] if storage else [])])
    sweeping.refuse_search(job, file, command="run")
    raise typer.Exit(train(job, run_id, None if local else address, local=local))


def train(job: Spec, run_id: str | None, address: str | None, *, local: bool) -> int:
    """Train a job to its end, or until it is stopped; the exit code.

    Raises:
        LehrError: it cannot begin, or it failed.
    """
    from lehr import plan as plans
    from lehr import store as stores
    from lehr.cli.progress import Terminal
    from lehr.launch import admission
    from lehr.spec import needs
    from lehr.spec.place import refuse

    plan = plans.make(job, run_id=run_id)
    admission.require(plan)
    here = address is None
    refuse([*needs.packages(job), *needs.references(job, workers_are_here=here)])
    base = stores.connect(job.storage, plan.storage_options())
    stores.probe(base)
    folder = base.below(plan.run_id)
    with Terminal(plan, folder) as terminal:
        before = admission.standing(plan, folder)
        if before.complete:
            typer.echo(_complete(plan, folder.url, before.step))
            return 0
        admission.refuse_second(plan, folder, say=terminal.say)
        admission.prepare(plan, folder)
        terminal.begin(before)
        outcome, signal = _train(plan, base, terminal, address, local=local)
        return terminal.end(outcome, signal)


def _complete(plan: Plan, url: str, step: int | None) -> str:
    from lehr.cli.progress import called

    return (
        f"run {plan.run_id} is complete: {step} of {plan.steps} steps are done\n"
        f"  look at it: lehr show {called(plan, url)}\n"
        f"  train on: give a longer train.duration, as --set 'train.duration={{steps: {2 * plan.steps}}}'\n"
        f"  train anew: --run {plan.run_id}-2"
    )


def _train(
    plan: Plan, base: Store, terminal: Terminal, address: str | None, *, local: bool
) -> tuple[Outcome, int | None]:
    from lehr import logs
    from lehr.launch import driver, ending, stopping

    folder = base.below(plan.run_id)
    stopping.clear(folder)
    # What Ray and TensorFlow say in this process goes to a file; the terminal has a descriptor of its own.
    with logs.into(folder, "logs/driver.log"), ending.listening(folder, terminal.say):
        return driver.drive(_work(plan, base, address, local), folder, tick=terminal.tick, say=terminal.say)


def _work(plan: Plan, base: Store, address: str | None, local: bool) -> Callable[[], Outcome]:
    def work() -> Outcome:
        from lehr.launch import local as here
        from lehr.launch import train

        return here.run(plan, base) if local else train.run(plan, base, address=address)

    return work
