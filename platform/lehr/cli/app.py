"""The `lehr` command: which commands there are, and what becomes of what they raise.

Exit codes: 0 done; 1 an error; 2 a mistake in what the user gave (arguments, job file); 130 interrupted.
A command's module imports nothing heavy at its top: `lehr --help` imports them all.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

import lehr
from lehr.errors import LehrError

# Commands by the module that holds them, in the order of `lehr --help`.
COMMANDS = {
    "run": ("run",),
    "submit": ("submit",),
    "sweep": ("sweep",),
    "stop": ("stop",),
    "check": ("check", "plan", "schema"),
    "list": ("list",),
    "runs": ("runs", "status", "show", "checkpoints"),
    "logs": ("logs",),
    "sample": ("sample", "curves"),
    "evaluate": ("evaluate",),
    "track": ("track",),
    "manifest": ("manifest",),
    "chaos": ("chaos",),
    "host": ("host",),
    "doctor": ("doctor",),
}
INTERRUPTED = 130  # 128 + SIGINT, as shells count


def print_version(wanted: bool) -> None:
    """Callback of `--version`: an eager option, so it answers before any command is looked for."""
    if wanted:
        typer.echo(f"lehr {lehr.__version__}")
        raise typer.Exit


def about(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train TensorFlow and Keras models over a cluster: one YAML file a job, exact to the bit on resume."""


class Ordered(TyperGroup):
    """Lists its commands as `COMMANDS` does: Typer puts groups last."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        return [name for names in COMMANDS.values() for name in names]


def application() -> typer.Typer:
    """The Typer application with every command registered."""
    # Plain text, no boxes: an error message is a letter, and a box would break its lines.
    app = typer.Typer(
        name="lehr",
        cls=Ordered,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(about)
    for module, names in COMMANDS.items():
        functions = importlib.import_module(f"lehr.cli.{module}")
        for name in names:
            command = getattr(functions, name)
            if isinstance(command, typer.Typer):
                app.add_typer(command, name=name)
            else:
                app.command(name)(command)
    return app


def report_defect(error: Exception) -> None:
    """Say shortly that lehr itself failed, and keep the traceback in a file."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="lehr-", suffix=".traceback.txt", delete=False, encoding="utf-8"
    ) as file:
        traceback.print_exception(error, file=file)
    summary = traceback.format_exception_only(error)[-1].strip()
    print(
        f"lehr: unexpected {summary}\n"
        f"  traceback: {file.name}\n"
        "  do: this is a defect of lehr, not of your job; report it with that file",
        file=sys.stderr,
    )


def main() -> None:
    """Entry point of `lehr` and of `python -m lehr`; always leaves by SystemExit."""
    try:
        get_command(application())(prog_name="lehr")
    except LehrError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        report_defect(error)
        sys.exit(1)
