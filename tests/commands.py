"""The `lehr` command in the process of a test."""

from __future__ import annotations

import sys

import pytest

from lehr.cli import app


def lehr(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[object, str, str]:
    """Exit code, stdout and stderr of the real command."""
    monkeypatch.setattr(sys, "argv", ["lehr", *arguments])
    with pytest.raises(SystemExit) as left:
        app.main()
    said = capsys.readouterr()
    return left.value.code, said.out, said.err
