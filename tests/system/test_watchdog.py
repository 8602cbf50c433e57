"""A worker that hangs, on a cluster of the run's own: it is named, its stacks are kept, the run goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import jobs
from lehr import journal, logs
from lehr.store import Store

pytestmark = [pytest.mark.system, pytest.mark.slow]
TESTS = Path(__file__).parents[1]
HANG_S = 15
DRIVER = """
import json, pathlib, sys
import jobs
from lehr.errors import LehrError
from lehr.launch import train

storage, worker, *sets = sys.argv[1:]
try:
    answer = train.run(jobs.plan(jobs.LENET, *sets), jobs.storage(pathlib.Path(storage)),
                       worker=f"hanging_workers:{worker}").document()
except LehrError as error:
    answer = {"error": type(error).__name__, "message": str(error)}
print("answer:", json.dumps(answer))
"""


def drive(storage: Store, worker: str, *sets: str) -> tuple[dict[str, Any], str]:
    """What `train.run` answered in a process of its own, and what it said meanwhile."""
    sets = ("strategy={kind: horovod, workers: 2}", f"recovery.hang_minutes={HANG_S / 60}", *sets)
    said = subprocess.run(
        [sys.executable, "-c", DRIVER, storage.url, worker, *sets],
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout.rpartition("answer: ")[2]), said.stderr


def log(storage: Store, rank: int, attempt: int = 1) -> str:
    return storage.read(f"lenet/{logs.key(rank, attempt)}").decode(errors="replace")


def hung(storage: Store) -> str:
    """What the journal of the attempt that hung says."""
    entries = journal.read_attempt(storage.below("lenet"), 1)
    (message,) = [entry["message"] for entry in entries if entry.get("event") == "hung"]
    return str(message)


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    store = jobs.storage(tmp_path)
    store.write("lenet/plan.json", b"{}")
    return store


def test_rank_that_hangs_in_its_data_is_named_and_the_run_goes_on(storage: Store) -> None:
    answer, said = drive(storage, "in_data")
    assert (answer["status"], answer["step"]) == ("completed", 10)
    message = hung(storage)
    assert "rank 1 on" in message
    assert "at step 3 in data since" in message
    assert "rank 0 waits" in message
    assert message in said
    for rank in (0, 1):
        assert message in log(storage, rank)
    assert "hanging_workers.py" in log(storage, 1)  # where it hangs
    assert "loop/train.py" in log(storage, 0)  # where it waits


def test_stopped_process_is_named_and_woken_for_its_stacks(storage: Store) -> None:
    answer, said = drive(storage, "stopped")
    assert (answer["status"], answer["step"]) == ("completed", 10)
    message = hung(storage)
    assert "rank 1 on" in message
    assert "does not answer since" in message
    assert "was stopped" in said
    assert "hanging_workers.py" in log(storage, 1)


def test_rank_that_computes_for_ever_is_told_from_those_that_wait(storage: Store) -> None:
    answer, _ = drive(storage, "in_compute")
    assert (answer["status"], answer["step"]) == ("completed", 10)
    message = hung(storage)
    assert "rank 1 on" in message
    assert "in compute, computing since" in message


def test_nobody_is_blamed_where_nothing_tells_who_hangs(storage: Store) -> None:
    answer, said = drive(storage, "asleep_in_compute")
    assert (answer["status"], answer["step"]) == ("completed", 10)
    message = hung(storage)
    assert "ranks 0, 1 are all at step 3 in compute, and nothing tells which of them hangs" in message
    assert message in said
    assert "hanging_workers.py" in log(storage, 1)  # a person can tell


def test_hanging_counts_as_a_failure_and_says_so(storage: Store) -> None:
    answer, _ = drive(storage, "in_data", "recovery.max_failures=0")
    assert answer["error"] == "LaunchError"
    first = answer["message"].splitlines()[0]
    assert first.startswith("worker 1 failed in attempt 1: rank 1 on")
    assert "at step 3 in data since" in first
