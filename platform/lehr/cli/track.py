"""`lehr track sync`: the journal's rows to W&B, for whatever is missing there; no TensorFlow."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from lehr.cli.runs import Storage

if TYPE_CHECKING:
    from lehr.tracking.sync import Synced

Names = Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs' ids, or URLs of their folders.")]
Project = Annotated[
    str | None, typer.Option(metavar="NAME", help="W&B's project, instead of the job's or if it has none.")
]
Entity = Annotated[str | None, typer.Option(metavar="NAME", help="W&B's team or user, the same.")]


class Action(StrEnum):
    """What can be done."""

    sync = "sync"


What = Annotated[Action, typer.Argument(help="sync: send to W&B what it lacks.")]


def track(
    what: What, runs: Names, storage: Storage = "runs", project: Project = None, entity: Entity = None
) -> None:
    """Send runs to W&B: what it lacks of their journals, pictures and checkpoints. May be repeated.

    It reads storage alone, so it works from any machine and when the cluster is gone. Exit codes: 0 W&B has
    all of every run; 1 not; 2 a mistake in what was given.
    """
    good = [_one(name, storage, project, entity) for name in runs]
    if not all(good):
        raise typer.Exit(1)


def _one(name: str, storage: str, project: str | None, entity: str | None) -> bool:
    """Sync a run and say so; whether W&B has all of it."""
    from lehr.cli import stored
    from lehr.errors import LehrError, UserError, letter
    from lehr.tracking import sync as syncing

    try:
        run = stored.find(name, storage)
        if syncing.alive(run.folder):
            came = "it is being trained right now, and sends its rows itself"
            raise UserError(letter(f"run {run.name}", came, do="sync it when it has ended"))
        if run.is_sweep:
            return _sweep(name, storage, project, entity)
        typer.echo(f"{run.name}: {told(syncing.sync(run.folder, project=project, entity=entity))}")
    except LehrError as error:
        typer.echo(f"{name}: not synced: {error}", err=True)
        return False
    return True


def _sweep(name: str, storage: str, project: str | None, entity: str | None) -> bool:
    """Send how a sweep stands; its trials are runs, to be named themselves."""
    from lehr.cli import publishing, trials

    found = trials.find(name, storage)
    place = publishing.send(found, project, entity)
    typer.echo(
        f"{found.run.name}: how the sweep stands was sent to {place}; its trials are runs of their own"
    )
    return True


def told(done: Synced) -> str:
    """What was sent where, in one line."""
    where = f"W&B {done.place.entity}/{done.place.project}/{done.place.id}"
    if done.nothing:
        return f"nothing missing: {where} has all {done.rows:,} rows"
    others = {"pictures": done.pictures, "checkpoints": done.checkpoints}
    more = "".join(f", {count:,} {name}" for name, count in others.items() if count)
    return f"{where} had {done.had:,} of {done.rows:,} rows; sent {done.sent:,} rows{more}"
