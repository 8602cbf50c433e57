"""`lehr runs`, `status`, `show` and `checkpoints`: they read storage alone; no TensorFlow.

`status` asks a cluster, too, if one is named.
"""

from __future__ import annotations

from typing import Annotated

import typer

Storage = Annotated[
    str,
    typer.Option(
        metavar="URL",
        envvar="LEHR_STORAGE",
        help="Where runs are kept: a folder or a URL. Its credentials come from this process (AWS_*, "
        "profiles, roles and the like; AWS_ENDPOINT_URL for another S3 server), not from the job.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="A cluster's dashboard, as http://head:8265; default: RAY_API_SERVER_ADDRESS, RAY_ADDRESS.",
        show_default=False,
    ),
]
Name = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's, trial's or sweep's id, or the URL of its folder.")
]


def runs(storage: Storage = "runs") -> None:
    """List the runs in a storage: how they are, how far, how good."""
    from lehr import store
    from lehr.cli import columns, stored

    place = store.connect(storage)
    found = stored.runs(place)
    if not found:
        typer.echo(f"no runs in {place.url}")
        return
    typer.echo("\n".join(columns.aligned(stored.rows(found))))


def status(run: Name, storage: Storage = "runs", address: Address = None) -> None:
    """Tell in a few lines how a run is. Exit code 1 when it failed, diverged or has fallen silent.

    With a cluster that it was submitted to, also of one that waits, or failed, before it had a folder.
    """
    from lehr.cli import known

    there = known.cluster(address)
    found = known.find(run, storage, there)
    typer.echo("\n".join(known.status_lines(found, there)))
    if known.is_amiss(found):
        raise typer.Exit(1)


def show(run: Name, storage: Storage = "runs") -> None:
    """Tell all about a run: its job, attempts, events, metrics, checkpoints and samples."""
    from lehr.cli import overview, stored

    typer.echo("\n".join(overview.lines(stored.find(run, storage))))


def checkpoints(
    run: Name,
    storage: Storage = "runs",
    verify: Annotated[bool, typer.Option("--verify", help="Read every byte and compare the sums.")] = False,
) -> None:
    """List a run's checkpoints, newest first. Exit code 1 when one is not what was written."""
    from lehr.checkpoint.manifest import ROOT, listing
    from lehr.cli import columns, overview, stored

    kept = stored.find(run, storage)
    stored.refuse_sweep(kept)
    folder = kept.folder
    found = listing(folder)
    if not found:
        typer.echo(f"no checkpoints in {folder.url}/{ROOT}")
        return
    rows = [overview.checkpoint_row(folder, item, verify=verify) for item in found]
    typer.echo("\n".join(columns.aligned([overview.CHECKPOINT_HEAD, *rows])))
    if any(row[-1].startswith("bad") for row in rows):
        raise typer.Exit(1)
