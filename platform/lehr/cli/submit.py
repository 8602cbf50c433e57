"""`lehr submit`: a job file becomes a run on a Ray cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lehr.cli.run import File, RunId, Set
from lehr.cli.run import Storage as Kept
from lehr.cli.runs import Address

if TYPE_CHECKING:
    from lehr.launch.addresses import Address as Place
    from lehr.launch.jobs import Job, Jobs, Submission
    from lehr.plan import Plan
    from lehr.sweep.program import Program

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Show what the driver prints, until the end.")]
Ship = Annotated[bool, typer.Option("--ship", help="Take this lehr along; else the cluster's image has one.")]
With = Annotated[
    list[str] | None,
    typer.Option(
        "--with", metavar="PATH", help="A package or module of your own to go along. May be repeated."
    ),
]
STOPPED = 143  # 128 + SIGTERM, as shells count


def submit(
    file: File,
    sets: Set = None,
    run_id: RunId = None,
    address: Address = None,
    storage: Kept = None,
    follow: Follow = False,
    ship: Ship = False,
    extras: With = None,
) -> None:
    """Send a job to a Ray cluster, print the run's id, and leave it to the cluster; a sweep the same way.

    The same command again goes on from the last checkpoint, once the run has ended. With --follow the exit
    code is that of `lehr run`, and Ctrl-C ends the following, not the run.
    """
    from lehr.launch import addresses, jobs

    sys.path[:0] = [str(Path(path).expanduser().resolve().parent) for path in extras or ()]
    cluster = jobs.Jobs(addresses.require(address))
    plan = _plan(file, [*(sets or ()), *([f"storage={storage}"] if storage else [])], run_id, cluster)
    job = cluster.submit(_submission(plan, extras or [], ship=ship))
    typer.echo(plan.run_id)
    typer.echo(introduction(plan, job, cluster.address), err=True)
    if follow:
        raise typer.Exit(_follow(cluster, job))


def _plan(file: str, sets: list[str], run_id: str | None, cluster: Jobs) -> Plan | Program:
    from lehr import plan as plans
    from lehr import spec as specs
    from lehr.launch import places
    from lehr.sweep import program as programs

    job = specs.load(file, sets)
    if more := places.settled(job, cluster.dashboard):
        job = specs.load(file, [*sets, *more])
    return plans.make(job, run_id=run_id) if job.search is None else programs.make(job, run_id=run_id)


def _submission(plan: Plan | Program, extras: list[str], *, ship: bool) -> Submission:
    from lehr import spec as specs
    from lehr.launch import jobs

    sent = jobs.submission(plan, specs.text(plan.spec), extras=extras, ship=ship)
    if names := sent.folder.withheld:
        typer.echo(f"not sent, for secrets are kept under such names: {', '.join(names)}", err=True)
    return sent


def introduction(plan: Plan | Program, job: Job, place: Place) -> str:
    """Where to look for a run that was submitted."""
    from lehr.cli.progress import called

    run = called(plan, f"{plan.spec.storage.rstrip('/')}/{plan.run_id}")
    what, look = (
        ("run", f"lehr status {run}") if plan.spec.search is None else ("sweep", f"lehr sweep show {run}")
    )
    follow = f"lehr logs {run} --rank driver --follow" if what == "sweep" else f"lehr logs {run} --follow"
    return (
        f"{what} {plan.run_id} is on the cluster, as job {job.id}\n"
        f"  storage    {plan.spec.storage.rstrip('/')}/{plan.run_id}\n"
        f"  dashboard  {place.url}/#/jobs/{job.id}\n"
        f"  look at it: {look}; follow it: {follow}; stop it: lehr stop {run}"
    )


def _follow(cluster: Jobs, job: Job) -> int:
    """Show the driver's output to its end; the exit code that `lehr run` had, or would have had."""
    from lehr.launch.tail import Tail

    try:
        ended = Tail(cluster, job.id, show=_show, say=lambda text: typer.echo(text, err=True)).follow()
    except KeyboardInterrupt:
        typer.echo(f"\nno longer followed; run {job.run} goes on. To stop it: lehr stop {job.run}", err=True)
        raise
    if ended.exit_code is None and ended.message and ended.status == "FAILED":
        typer.echo(f"job {ended.id} failed: {ended.message}", err=True)
    return exit_code(ended)


def exit_code(job: Job) -> int:
    """What `lehr run` left with; of a job that Ray ended, what it would have."""
    if job.exit_code is not None:
        return job.exit_code
    return {"SUCCEEDED": 0, "STOPPED": STOPPED}.get(job.status, 1)


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
