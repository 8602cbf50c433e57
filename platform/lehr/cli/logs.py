"""`lehr logs`: what a worker printed, from storage; of a driver without a log there, from its cluster."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from lehr.cli.runs import Address, Name, Storage

if TYPE_CHECKING:
    from lehr.cli.known import Known
    from lehr.launch.jobs import Jobs
    from lehr.store import Store

DRIVER = "driver"
Rank = Annotated[str, typer.Option(metavar="N", help="Whose log: a rank, or driver: what the launcher said.")]
Attempt = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Which attempt's; default: the newest with one.")
]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends; into new attempts.")]
Lines = Annotated[int | None, typer.Option(metavar="N", min=0, help="Only the last N lines.")]


def logs(
    run: Name, rank: Rank = "0", attempt: Attempt = None, follow: Follow = False, lines: Lines = None,
    storage: Storage = "runs", address: Address = None,
) -> None:  # fmt: skip
    """Print what a worker of a run printed; what is more, with --follow.

    Where keys are no files, a log arrives in storage some seconds after it was printed.
    """
    from lehr.cli import known, printing

    there = known.cluster(address)
    found = known.find(run, storage, there)
    if found.run is not None and found.run.is_sweep:
        rank = DRIVER  # a sweep has no workers of its own: its trials have
    if there is not None and _is_on_cluster(found, rank):
        _show_job(there, found, lines, follow=follow)
        return
    folder = found.folder
    wanted = printing.choose(folder, _number(rank), attempt)
    _introduce(folder, wanted)
    following = printing.Following(folder, wanted, pinned=attempt is not None)
    for text in following.begin(lines):
        _print(text)
    if follow:
        for text in following.rest(lambda: _introduce(folder, following.log)):
            _print(text)


def _is_on_cluster(found: Known, rank: str) -> bool:
    """Whether only the cluster has the log: of a driver of which there is none in storage."""
    from lehr.cli import printing
    from lehr.store import growing

    if found.job is None or rank != DRIVER:
        return False
    return found.run is None or growing.size(found.run.folder, printing.DRIVER_KEY) is None


def _show_job(there: Jobs, found: Known, lines: int | None, *, follow: bool) -> None:
    from lehr.launch.tail import Tail

    assert found.job is not None, "the cluster has none"
    typer.echo(f"== job {found.job.id} on {there.address.url} ==", err=True)
    text = there.log(found.job.id)
    said = text.splitlines(keepends=True)
    _print("".join(said if lines is None else said[max(0, len(said) - lines) :]))
    if follow:
        tail = Tail(there, found.job.id, show=_print, say=lambda line: typer.echo(line, err=True))
        tail.follow(skip=len(text))


def _number(rank: str) -> int | None:
    """The rank; None for the driver."""
    from lehr.errors import UserError, letter

    if rank == DRIVER:
        return None
    if not rank.isdecimal():
        raise UserError(letter("--rank", f"came {rank!r}", accepted=f"a whole number from 0, or {DRIVER}"))
    return int(rank)


def _introduce(folder: Store, log: object) -> None:
    """Say which log it is, where that is not plain; not on standard output."""
    from lehr.cli import printing

    if text := printing.introduction(folder, log):  # type: ignore[arg-type]
        typer.echo(text, err=True)


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
