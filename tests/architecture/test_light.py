"""The CLI validates and plans without the libraries that train (their imports take seconds)."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from architecture import source

HEAVY = ("tensorflow", "keras", "ray", "wandb", "horovod")
JOB = "jobs/ebm-digits.yaml"
PROGRAM = f"""
import json, sys
from lehr.cli.app import main
try:
    main()
except SystemExit as left:
    code = left.code or 0
print(json.dumps([code, [name for name in {HEAVY!r} if name in sys.modules]]))
"""


def run(*arguments: str, program: str = PROGRAM) -> tuple[int, list[str], str]:
    """Exit code of `lehr ARGUMENTS`, the heavy libraries that it loaded, and all it said."""
    command = [sys.executable, "-c", program, *arguments]
    said = subprocess.run(command, cwd=source.ROOT, capture_output=True, text=True, timeout=60)
    assert said.stdout, said.stderr
    code, loaded = json.loads(said.stdout.splitlines()[-1])
    return code, loaded, said.stdout + said.stderr


@pytest.mark.parametrize(
    "arguments", [["--help"], ["check", JOB], ["plan", JOB], ["schema"], ["run", "--help"]]
)
def test_command_loads_nothing_heavy(arguments: list[str]) -> None:
    code, loaded, said = run(*arguments)
    assert code == 0, said
    assert loaded == []


def test_reading_commands_load_nothing_heavy() -> None:
    """`lehr runs` on an empty storage: whatever it answers, it must not have loaded TensorFlow for it."""
    _, loaded, said = run("runs", "--storage", "memory://nothing-here")
    assert loaded == [], said


def test_loaded_library_is_seen() -> None:
    _, loaded, _ = run(
        "--version", program=f"import sys, types\nsys.modules['keras'] = types.ModuleType('keras')\n{PROGRAM}"
    )
    assert "keras" in loaded
