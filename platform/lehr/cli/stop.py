"""`lehr stop`: end a run, wherever it is, with a checkpoint."""

from __future__ import annotations

from typing import Annotated

import typer

from lehr.cli.runs import Address, Name, Storage

Now = Annotated[bool, typer.Option("--now", help="Kill it; what was done since its last checkpoint is lost.")]
Wait = Annotated[float, typer.Option(metavar="SECONDS", min=0, help="How long to wait for its end.")]


def stop(
    run: Name, now: Now = False, wait: Wait = 600.0, storage: Storage = "runs", address: Address = None
) -> None:
    """Stop a run: it finishes its step, makes a checkpoint and ends. Given again, it goes on from there.

    The wish goes through the run's storage; where a cluster is named and has the run, through the cluster,
    which also ends a run that has not begun. Exit code 0: the run is over; 1: not yet.
    """
    from lehr.cli import known, stored, wishes

    there = known.cluster(address)
    found = known.find(run, storage, there)
    if wishes.is_over(found):
        typer.echo(f"run {found.name} is over: {wishes.ending(found)}")
        return
    if found.run is not None:
        stored.refuse_trial(found.run)
    wish = wishes.Wish(found, there, now=now)
    wish.ask(say=lambda text: typer.echo(text, err=True))
    if not wish.wait(wait):
        told = f"run {found.name} has not ended: {wishes.ending(wish.found)}"
        typer.echo(f"{told}\n  do: look again with `lehr status`", err=True)
        raise typer.Exit(1)
    typer.echo(f"run {found.name}: {wishes.ending(wish.found)}")
