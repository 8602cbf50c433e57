"""Where files may stand: nothing may hide a module of the standard library, no room may be a lumber-room."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from architecture import source

LUMBER = {"utils", "util", "helpers", "helper", "common", "core", "manager", "managers", "misc"}


def hiding(root: Path) -> list[str]:
    """Files and folders that would hide a module of the standard library in `root` or in tests."""
    found = list((root / "platform").glob("*.py"))
    for folder in (root, root / "tests"):
        for path in folder.iterdir():
            importable = path.suffix == ".py" or (path.is_dir() and (path / "__init__.py").exists())
            if importable and path.stem in sys.stdlib_module_names:
                found.append(path)
    return sorted({str(path.relative_to(root)) for path in found})


def test_nothing_hides_the_standard_library() -> None:
    assert hiding(source.ROOT) == []


@pytest.mark.parametrize(
    "name", ["platform/__init__.py", "platform/doctor.py", "tests/queue.py", "json/__init__.py"]
)
def test_planted_module_that_hides_one_is_found(name: str, tmp_path: Path) -> None:
    for folder in ("tests", "platform", "json"):
        (tmp_path / folder).mkdir()
    (tmp_path / name).touch()
    assert hiding(tmp_path), f"{name} was not found"


def test_platform_is_still_the_standard_librarys_in_the_root() -> None:
    code = "import platform; assert platform.__file__, platform; print(platform.python_version())"
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=source.ROOT, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == sys.version.split()[0]


def test_no_lumber_rooms() -> None:
    names = [name for name in source.modules(source.SOURCE) if LUMBER & set(name.split("."))]
    assert names == [], "a module is a noun that says what is in it"
    assert not (source.ROOT / "docs").exists(), "the READMEs and docstrings are the documentation"
