"""`lehr list`: what a storage and a cluster know of runs, in one table."""

from __future__ import annotations

import typer

from lehr.cli.runs import Address, Storage


def list(storage: Storage = "runs", address: Address = None) -> None:
    """List runs: those of a storage, and those that were submitted to a cluster, joined.

    A run's status, step and metric are its storage's word; `on the cluster` is its newest job, by Ray's.
    """
    from lehr import store
    from lehr.cli import columns, known, stored

    there = known.cluster(address)
    jobs = there.all() if there else []
    place = store.connect(storage)
    found = known.in_storage(jobs, stored.runs(place), place.url)
    if found:
        typer.echo("\n".join(columns.aligned(known.rows(found))))
    else:
        typer.echo(f"no runs in {place.url}{f', and none on {there.address.url}' if there else ''}")
    if there is None:
        typer.echo(
            "no cluster was asked: give --address URL, or set RAY_ADDRESS, to see what one knows", err=True
        )
