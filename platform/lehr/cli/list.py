"""`lehr list`: what a storage and a cluster know of runs, in one table."""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING

import typer

from lehr.cli.runs import Address, Storage
from lehr.errors import LaunchError

if TYPE_CHECKING:
    from lehr.launch.jobs import Job, Jobs


def list(storage: Storage = "runs", address: Address = None) -> None:
    """List runs: those of a storage, and those that were submitted to a cluster, joined.

    A run's status, step and metric are its storage's word; `on the cluster` is its newest job, by Ray's.
    Where the cluster does not answer, the storage's runs are listed, and the exit code is 1.
    """
    from lehr import store
    from lehr.cli import columns, known, stored

    there = known.cluster(address)
    jobs, trouble = _submitted(there)
    place = store.connect(storage)
    found = known.in_storage(jobs, stored.runs(place), place.url)
    if found:
        typer.echo("\n".join(columns.aligned(known.rows(found))))
    else:
        asked = there if not trouble else None
        typer.echo(f"no runs in {place.url}{f', and none on {asked.address.url}' if asked else ''}")
    if there is None:
        typer.echo(
            "no cluster was asked: give --address URL, or set RAY_ADDRESS, to see what one knows", err=True
        )
    if trouble:
        typer.echo(f"{trouble}\n  the runs above are those of {place.url} alone", err=True)
        raise typer.Exit(1)


def _submitted(there: Jobs | None) -> tuple[builtins.list[Job], str]:
    """What a cluster knows, and why it does not tell: one of them is empty."""
    try:
        return (there.all() if there else []), ""
    except LaunchError as error:
        return [], str(error)
