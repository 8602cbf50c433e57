"""The README's commands exist, and CI runs them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from architecture import source

README = (source.ROOT / "README.md").read_text()
MAKEFILE = (source.ROOT / "Makefile").read_text()
BLOCKS = re.findall(r"^```\w*\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
TARGETS = set(re.findall(r"^(\w+):", MAKEFILE, re.MULTILINE))


def help_of(*command: str) -> str:
    words = [sys.executable, "-m", "lehr", *command, "--help"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_quick_start_is_two_commands() -> None:
    assert BLOCKS[0].splitlines() == ["make run", "make test"]


def test_ci_runs_the_readmes_test_command() -> None:
    script = (source.ROOT / ".ci" / "run").read_text().splitlines()
    assert script[-1] == BLOCKS[0].splitlines()[1]
    assert "set -euo pipefail" in script
    assert (source.ROOT / ".ci" / "run").stat().st_mode & 0o111, "not executable"


def test_make_test_runs_every_test() -> None:
    said = subprocess.run(
        ["make", "--dry-run", "test"], cwd=source.ROOT, capture_output=True, text=True, check=True
    )
    whole = r"-m pytest tests --numprocesses \d+ --dist loadfile --no-loadscope-reorder$"
    assert re.search(whole, said.stdout.strip(), re.MULTILINE)


def test_make_run_trains_a_job_that_exists() -> None:
    said = subprocess.run(
        ["make", "--dry-run", "run"], cwd=source.ROOT, capture_output=True, text=True, check=True
    )
    [job] = re.findall(r"lehr run (\S+)$", said.stdout, re.MULTILINE)
    assert (source.ROOT / job).exists()
    assert f"`{job}`" in README


def test_make_targets_that_are_named_exist() -> None:
    named = set(re.findall(r"`make (\w+)[^`]*`", README)) | set(
        re.findall(r"^make (\w+)", README, re.MULTILINE)
    )
    assert named >= {"run", "test", "setup", "bench"}
    assert named <= TARGETS
    assert set(re.findall(r"^# make (\w+)", MAKEFILE, re.MULTILINE)) == TARGETS, (
        "the Makefile's head lists its targets"
    )


def test_commands_are_those_that_exist() -> None:
    table = README.partition("## Commands")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `lehr (\w+)", table, re.MULTILINE)
    listed = re.findall(r"^  (\w+) {2,}\S", help_of().partition("Commands:")[2], re.MULTILINE)
    assert sorted(named) == sorted(listed)


@pytest.mark.parametrize("line", sorted(set(re.findall(r"`(lehr \w+ [^`]*--[^`]*)`", README))))
def test_options_in_the_text_exist(line: str) -> None:
    words = shlex.split(line)
    known = set(re.findall(r"--[\w-]+", help_of(words[1])))
    assert {word for word in words if word.startswith("--")} <= known


def test_error_message_that_is_shown_is_the_one_that_comes() -> None:
    [block] = [block for block in BLOCKS if block.startswith("$ lehr check")]
    command, _, shown = block.partition("\n")
    words = shlex.split(command)[2:]
    said = subprocess.run(
        [sys.executable, "-m", "lehr", *words], cwd=source.ROOT, capture_output=True, text=True
    )
    assert said.returncode == 2
    assert said.stderr.strip() == shown.strip()


def test_job_that_is_shown_is_accepted(tmp_path: Path) -> None:
    [block] = [block for block in BLOCKS if block.startswith("version:")]
    job = tmp_path / "job.yaml"
    job.write_text(block)
    subprocess.run([sys.executable, "-m", "lehr", "check", str(job)], check=True, capture_output=True)


@pytest.mark.parametrize(
    "page", ["README.md", "platform/README.md", "cluster/README.md", "cluster/horovod/README.md"]
)
def test_links_lead_somewhere(page: str) -> None:
    path = source.ROOT / page
    links = re.findall(r"\]\(([^)#:]+)\)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_patches_are_all_explained() -> None:
    page = (source.ROOT / "cluster" / "horovod" / "README.md").read_text()
    named = re.findall(r"^\| `(\d{4}-[\w-]+)`", page, re.MULTILINE)
    assert named == sorted(path.stem for path in (source.ROOT / "cluster/horovod/patches").glob("*.patch"))


def test_speeds_that_are_shown_were_measured() -> None:
    assert "to be measured" not in README
