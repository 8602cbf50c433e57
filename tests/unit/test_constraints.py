"""constraints.txt is whole, exact, and what is installed."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name as canonical

ROOT = Path(__file__).resolve().parents[2]
LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
PINS = {canonical(line.split("==")[0]): line.split("==")[1] for line in LINES}
UNPINNED = {"horovod"}  # its version is in the script that builds it


def needed() -> set[str]:
    """Every package that the project needs, through all levels, as the installed metadata tells it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    open_ends = [Requirement(line) for line in project["project"]["dependencies"]]
    open_ends += [Requirement(line) for line in project["dependency-groups"]["dev"]]
    open_ends += [Requirement(name) for name in ("pip", "setuptools", "wheel", "horovod")]
    seen: set[tuple[str, frozenset[str]]] = set()
    while open_ends:
        requirement = open_ends.pop()
        step = (canonical(requirement.name), frozenset(requirement.extras))
        if step in seen:
            continue
        seen.add(step)
        for line in importlib.metadata.requires(requirement.name) or []:
            below = Requirement(line)
            extras = [*requirement.extras, ""]
            if below.marker is None or any(below.marker.evaluate({"extra": extra}) for extra in extras):
                open_ends.append(below)
    return {name for name, _ in seen}


def test_lines_are_names_and_versions_only() -> None:
    odd = [line for line in LINES if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)]
    assert odd == []
    assert len(PINS) == len(LINES), "a package is named twice"
    assert [canonical(line.split("==")[0]) for line in sorted(LINES, key=str.lower)] == list(PINS)


def test_every_package_that_is_needed_is_pinned() -> None:
    assert needed() - set(PINS) == UNPINNED


def test_what_is_installed_is_what_is_pinned() -> None:
    """But for pip, which runs before it can be replaced and changes nothing of what it installs."""
    installed = {name: importlib.metadata.version(name) for name in needed() - UNPINNED - {"pip"}}
    assert {name: version for name, version in installed.items() if PINS[name] != version} == {}
