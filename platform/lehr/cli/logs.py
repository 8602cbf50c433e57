"""`lehr logs`: what a worker printed, from storage alone; no cluster, no TensorFlow."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from lehr.cli.runs import Name, Storage

if TYPE_CHECKING:
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
    storage: Storage = "runs",
) -> None:  # fmt: skip
    """Print what a worker of a run printed; what is more, with --follow.

    Where keys are no files, a log arrives in storage some seconds after it was printed.
    """
    from lehr.cli import printing, stored

    folder = stored.find(run, storage).folder
    wanted = printing.choose(folder, _number(rank), attempt)
    _introduce(folder, wanted)
    following = printing.Following(folder, wanted, pinned=attempt is not None)
    for text in following.begin(lines):
        _print(text)
    if follow:
        for text in following.rest(lambda: _introduce(folder, following.log)):
            _print(text)


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
