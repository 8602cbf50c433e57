"""`lehr runs`, `lehr show`, `lehr checkpoints`: they read storage alone; no cluster, no TensorFlow."""

from __future__ import annotations

from typing import Annotated

import typer

Storage = Annotated[
    str, typer.Option(metavar="URL", envvar="LEHR_STORAGE", help="Where runs are kept: a folder or a URL.")
]
Name = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or the URL of its folder.")]


def runs(storage: Storage = "runs") -> None:
    """List the runs in a storage: how they are, how far, how good."""
    import time

    from lehr import store
    from lehr.cli import columns, stored

    place = store.connect(storage)
    found = stored.runs(place)
    if not found:
        typer.echo(f"no runs in {place.url}")
        return
    rows = [("run", "status", "step", "attempts", "metric", "checkpoint", "last heard of")]
    for run in found:
        age = f"{columns.duration(time.time() - run.status.time)} ago" if run.status else stored.NOTHING
        rows.append((run.name, stored.state(run), stored.progress(run), str(len(run.attempts)),
                     stored.telling_metric(run), stored.newest_checkpoint(run.folder), age))  # fmt: skip
    typer.echo("\n".join(columns.aligned(rows)))


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

    folder = stored.find(run, storage).folder
    found = listing(folder)
    if not found:
        typer.echo(f"no checkpoints in {folder.url}/{ROOT}")
        return
    rows = [overview.checkpoint_row(folder, item, verify=verify) for item in found]
    typer.echo("\n".join(columns.aligned([overview.CHECKPOINT_HEAD, *rows])))
    if any(row[-1].startswith("bad") for row in rows):
        raise typer.Exit(1)
