"""The shell around the commands: exit codes, letters, and no traceback for a user's mistake."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

import lehr
from lehr.cli import app
from lehr.errors import LaunchError, SpecError, letter

MISTAKE = letter(
    "job.yaml:3: train.global_batch", "came -1", accepted="a whole number above 0", do="change it"
)


def leave(monkeypatch: pytest.MonkeyPatch, command: Callable[[], None], *arguments: str) -> int:
    """Exit code of `lehr ARGUMENTS` when the one command there is does what `command` does."""
    commands = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    commands.callback()(app.about)
    commands.command("go")(command)
    monkeypatch.setattr(app, "application", lambda: commands)
    monkeypatch.setattr(sys, "argv", ["lehr", *(arguments or ("go",))])
    with pytest.raises(SystemExit) as left:
        app.main()
    code = left.value.code
    return code if isinstance(code, int) else 0


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


def test_done_is_0(monkeypatch: pytest.MonkeyPatch) -> None:
    assert leave(monkeypatch, lambda: None) == 0


def test_users_mistake_is_2_and_the_letter_is_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert leave(monkeypatch, raising(SpecError(MISTAKE))) == 2
    said = capsys.readouterr()
    assert said.err == f"{MISTAKE}\n"
    assert said.out == ""


def test_our_error_is_1_without_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert leave(monkeypatch, raising(LaunchError("no worker came up"))) == 1
    assert capsys.readouterr().err == "no worker came up\n"


def test_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    assert leave(monkeypatch, raising(KeyboardInterrupt())) == 130


def test_commands_own_exit_code_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    assert leave(monkeypatch, raising(typer.Exit(7))) == 7


def test_defect_is_1_and_its_traceback_is_in_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert leave(monkeypatch, raising(ZeroDivisionError("a defect"))) == 1
    said = capsys.readouterr().err
    assert "unexpected ZeroDivisionError: a defect" in said
    assert "Traceback" not in said
    found = re.search(r"traceback: (\S+)", said)
    assert found
    file = Path(found[1])
    text = file.read_text()
    file.unlink()
    assert text.startswith("Traceback")
    assert "raise error" in text


@pytest.mark.parametrize("arguments", [("stop",), ("go", "--fast"), ("go", "now")])
def test_wrong_usage_is_2(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert leave(monkeypatch, lambda: None, *arguments) == 2
    assert arguments[-1] in capsys.readouterr().err


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert leave(monkeypatch, lambda: None, "--version") == 0
    assert capsys.readouterr().out == f"lehr {lehr.__version__}\n"


def test_help_lists_every_command_with_a_sentence() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "lehr", "--help"], capture_output=True, text=True, check=True
    )
    listed = dict(re.findall(r"^  (\w+) {2,}(\S.*)$", said.stdout.partition("Commands:")[2], re.MULTILINE))
    names = [name for commands in app.COMMANDS.values() for name in commands]
    assert list(listed) == names
    assert names == [
        "run",
        "submit",
        "sweep",
        "stop",
        "check",
        "plan",
        "schema",
        "list",
        "runs",
        "status",
        "show",
        "checkpoints",
        "logs",
        "sample",
        "curves",
        "evaluate",
        "track",
        "manifest",
        "chaos",
        "host",
        "doctor",
    ]


def test_without_arguments_it_helps() -> None:
    said = subprocess.run([sys.executable, "-m", "lehr"], capture_output=True, text=True)
    assert "Usage: lehr" in said.stdout + said.stderr
    assert said.returncode == 2
