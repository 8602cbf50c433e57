"""`lehr sweep`: a search over a job, and what came of it.

The first word after it is one of its commands, or the FILE of the first of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lehr.cli.run import Address, File, Local, RunId, Set, Storage
from lehr.cli.runs import Storage as Kept

Sweep = Annotated[str, typer.Argument(metavar="RUN", help="The sweep's id, or the URL of its folder.")]
Figures = Annotated[
    str | None, typer.Option("--figures", metavar="FOLDER", help="Draw it, as PNG files into this folder.")
]
Top = Annotated[int | None, typer.Option("--top", metavar="N", min=1, help="Only the N best trials.")]
Write = Annotated[str | None, typer.Option("--write", metavar="FILE", help="Write it as a job file.")]
Force = Annotated[bool, typer.Option("--force", help="Write over a file that is there.")]
Trials = Annotated[
    str, typer.Option("--trials", metavar="+N", help="So many more; without the +, so many in all.")
]
START = "start"
HELP = """Search over a job whose file has a `search:` block.

\b
lehr sweep FILE [--set KEY=VALUE] [--run ID] [--address URL] [--local] [--storage URL]
                    begins it, or goes on with it where it stopped
lehr sweep show RUN [--figures FOLDER] [--top N]
                    its trials, the best of them, how much each parameter matters
lehr sweep best RUN [--write FILE] [--force]
                    the best trial's parameters; the whole job, with --write
lehr sweep extend RUN --trials +40 [--address URL] [--local]
                    more trials for it, and goes on
lehr sweep promote RUN [--run ID] [--set KEY=VALUE] [--address URL] [--local]
                    trains the best trial's job as a run of its own
"""


class Group(TyperGroup):
    """Takes what is none of its commands as the FILE of `lehr sweep FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the word in that may be left out."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            self._refuse_typo(args[0])
            args = [START, *args]
        return super().parse_args(ctx, args)

    def _refuse_typo(self, word: str) -> None:
        """Of `lehr sweep shw RUN`, say more than that there is no such file.

        Raises:
            UserError: it is no file, and nearly one of the commands.
        """
        from lehr.errors import UserError, letter
        from lehr.spec.place import nearest

        if not word.isalpha() or Path(word).exists():
            return
        if meant := nearest(word, self.commands):
            came = f"{word} is neither a file nor one of its commands; did you mean {meant}?"
            raise UserError(letter("lehr sweep", came, accepted=f"{', '.join(self.commands)}, or a FILE"))


sweep = typer.Typer(cls=Group, help=HELP, no_args_is_help=True, subcommand_metavar="FILE | COMMAND ...")


@sweep.command(START)
def start(
    file: File,
    sets: Set = None,
    run_id: RunId = None,
    address: Address = None,
    local: Local = False,
    storage: Storage = None,
) -> None:
    """Begin a sweep, or go on with it; the word `start` may be left out: lehr sweep FILE.

    The same command again goes on where it stopped. Ctrl-C stops it: trials that run make a checkpoint; a
    second one kills it. Exit codes: 0 all trials are over, or `lehr stop` ended it; 1 an error, trials that
    failed, a budget used up or a divergence that ended it; 2 a mistake in the job; 128 + the signal's number
    when a signal stopped it (130 for Ctrl-C).
    """
    from lehr import spec as specs
    from lehr.cli import sweeping
    from lehr.sweep import program

    job = specs.load(file, [*(sets or ()), *([f"storage={storage}"] if storage else [])])
    sweeping.require_search(job, file)
    raise typer.Exit(
        sweeping.drive(program.make(job, run_id=run_id), None if local else address, local=local)
    )


@sweep.command()
def show(run: Sweep, figures: Figures = None, top: Top = None, storage: Kept = "runs") -> None:
    """Tell of a sweep: its trials, the best, what was stopped and why, how much each parameter matters."""
    from lehr.cli import trials

    found = trials.find(run, storage)
    typer.echo("\n".join(trials.lines(found, top)))
    if figures is not None:
        typer.echo("\n".join(trials.draw(found, figures)))


@sweep.command()
def best(run: Sweep, write: Write = None, force: Force = False, storage: Kept = "runs") -> None:
    """Tell the best trial's parameters; with --write, make a whole job file of them."""
    from lehr.cli import trials, winner

    found = trials.find(run, storage)
    if write is not None:
        winner.write(found, write, force=force)
    typer.echo("\n".join(winner.lines(found, write)))


@sweep.command()
def extend(
    run: Sweep, trials: Trials, address: Address = None, local: Local = False, storage: Kept = "runs"
) -> None:
    """Give a sweep more trials, finished or not, and go on with it. It needs no job file: storage has it."""
    from lehr.cli import sweeping
    from lehr.cli import trials as reading

    found = reading.find(run, storage)
    raise typer.Exit(sweeping.extend(found, trials, None if local else address, local=local))


@sweep.command()
def promote(
    run: Sweep,
    sets: Set = None,
    run_id: RunId = None,
    address: Address = None,
    local: Local = False,
    storage: Kept = "runs",
) -> None:
    """Train the best trial's job as a run of its own, as `lehr run` would: from its seed on.

    The run is RUN-best, unless --run names it. For a longer training: --set 'train.duration={epochs: 40}'.
    """
    from lehr.cli import run as running
    from lehr.cli import trials, winner

    found = trials.find(run, storage)
    job = winner.job(found, sets or ())
    raise typer.Exit(running.train(job, run_id, None if local else address, local=local))
