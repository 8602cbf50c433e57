"""`lehr chaos` as a user gives it: a job survives its faults with the same bits, and the report says so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import jobs
from lehr import journal

pytestmark = [pytest.mark.system, pytest.mark.slow]
SETS = (
    "strategy={kind: horovod, workers: 2}",
    "train.duration={steps: 24}",
    "checkpoint.every={steps: 4}",
    "tracking.wandb={project: lehr}",
)


def chaos(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    job = folder / "job.yaml"
    job.write_text(jobs.EBM)
    sets = [word for text in SETS for word in ("--set", text)]
    command = [sys.executable, "-m", "lehr", "chaos", str(job), *sets, "--storage", str(folder / "runs")]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300)


def test_faults_of_every_sort_change_nothing(tmp_path: Path) -> None:
    told = chaos(
        tmp_path,
        *("--local", "--kill-rank", "1@step=14", "--slow-rank", "0:3x", "--wandb", "down"),
        *("--store", "503:2s@step=5", "--store", "lost:2s@step=18", "--store", "slow:3x:always"),
    )
    said = told.stdout
    assert told.returncode == 0, said + told.stderr
    assert said.splitlines()[-2] == "verdict: the disturbed run completed and equals the undisturbed one"
    assert re.search(
        r"kill rank 1 @ step 14\n    at \S+ s, at step 14, in attempt 1\n    attempt 2 went on", said
    )
    for fault in ("503 2 s @ step 5", "lost 2 s @ step 18", "slow 3x always @ start"):
        assert re.search(rf"store {fault}\n    at .*\n    \d+ calls suffered", said), said
    assert re.search(r"slow rank 0 3x\n    it slept \d+\.\d s in \d+ steps", said)
    assert re.search(r"weights +equal to the bit: \d+ arrays", said)
    storage = jobs.storage(tmp_path / "runs")
    hit, calm = (name for name in storage.folders() if not name.startswith("."))
    assert journal.attempts(storage.below(calm)) == [1]
    assert journal.attempts(storage.below(hit)) == [1, 2]
    first = journal.read_attempt(storage.below(hit), 1)
    assert max(entry["step"] or 0 for entry in first) <= 14, "rank 1 was killed at that very step"


def test_on_ray_a_fault_that_is_too_much_is_told(tmp_path: Path) -> None:
    """No attempt is left after the kill: the run fails, and the exit code says so."""
    told = chaos(tmp_path, "--kill-rank", "0@step=9", "--set", "recovery.max_failures=0")
    assert told.returncode == 1, told.stdout + told.stderr
    assert "kill rank 0 @ step 9\n    at " in told.stdout
    assert "no attempt went on after it" in told.stdout
    assert "status       failed" in told.stdout
    assert "verdict: the disturbed run did not complete" in told.stdout
    assert "Traceback" not in told.stdout + told.stderr
