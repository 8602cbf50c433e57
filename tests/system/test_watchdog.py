"""A worker that hangs, on a cluster of the run's own: it is named, its stacks are kept, the run goes on.

Each case mostly waits until nothing has happened for long enough: two of them run at a time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
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


# By the test's name: what its worker does, and overrides of its job.
CASES = {
    "in_data": ("in_data",),
    "stopped": ("stopped",),
    "in_compute": ("in_compute",),
    "asleep": ("asleep_in_compute",),
    "no_more": ("in_data", "recovery.max_failures=0"),
}


@dataclass(frozen=True)
class Told:
    """What `train.run` answered in a process of its own, what it said meanwhile, and what it left."""

    answer: dict[str, Any]
    said: str
    storage: Store


def drive(storage: Store, worker: str, *sets: str) -> Told:
    storage.write("lenet/plan.json", b"{}")
    sets = ("strategy={kind: horovod, workers: 2}", f"recovery.hang_minutes={HANG_S / 60}", *sets)
    said = subprocess.run(
        [sys.executable, "-c", DRIVER, storage.url, worker, *sets],
        capture_output=True, text=True, timeout=500, env=os.environ | {"PYTHONPATH": str(TESTS)},
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    return Told(json.loads(said.stdout.rpartition("answer: ")[2]), said.stderr, storage)


@pytest.fixture(scope="module")
def cases(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Told]]]:
    """All that are asked for, in the order of their tests."""
    here = [item for item in request.session.items if item.path == request.path]
    asked = [item.callspec.params["case"] for item in here]  # type: ignore[attr-defined]
    with ThreadPoolExecutor(2) as pool:
        folders = {name: jobs.storage(tmp_path_factory.mktemp(name)) for name in asked}
        yield {name: pool.submit(drive, folder, *CASES[name]) for name, folder in folders.items()}
        pool.shutdown(cancel_futures=True)


@pytest.fixture
def told(case: str, cases: dict[str, Future[Told]]) -> Told:
    return cases[case].result()


def log(storage: Store, rank: int, attempt: int = 1) -> str:
    return storage.read(f"lenet/{logs.key(rank, attempt)}").decode(errors="replace")


def hung(storage: Store) -> str:
    """What the journal of the attempt that hung says."""
    entries = journal.read_attempt(storage.below("lenet"), 1)
    (message,) = [entry["message"] for entry in entries if entry.get("event") == "hung"]
    return str(message)


@pytest.mark.parametrize("case", ["in_data"])
def test_rank_that_hangs_in_its_data_is_named_and_the_run_goes_on(told: Told) -> None:
    assert (told.answer["status"], told.answer["step"]) == ("completed", 10)
    message = hung(told.storage)
    assert "rank 1 on" in message
    assert "at step 3 in data since" in message
    assert "rank 0 waits" in message
    assert message in told.said
    for rank in (0, 1):
        assert message in log(told.storage, rank)
    assert "hanging_workers.py" in log(told.storage, 1)  # where it hangs
    assert "loop/train.py" in log(told.storage, 0)  # where it waits


@pytest.mark.parametrize("case", ["stopped"])
def test_stopped_process_is_named_and_woken_for_its_stacks(told: Told) -> None:
    assert (told.answer["status"], told.answer["step"]) == ("completed", 10)
    message = hung(told.storage)
    assert "rank 1 on" in message
    assert "does not answer since" in message
    assert "was stopped" in told.said
    assert "hanging_workers.py" in log(told.storage, 1)


@pytest.mark.parametrize("case", ["in_compute"])
def test_rank_that_computes_for_ever_is_told_from_those_that_wait(told: Told) -> None:
    assert (told.answer["status"], told.answer["step"]) == ("completed", 10)
    message = hung(told.storage)
    assert "rank 1 on" in message
    assert "in compute, computing since" in message


@pytest.mark.parametrize("case", ["asleep"])
def test_nobody_is_blamed_where_nothing_tells_who_hangs(told: Told) -> None:
    assert (told.answer["status"], told.answer["step"]) == ("completed", 10)
    message = hung(told.storage)
    assert "ranks 0, 1 are all at step 3 in compute, and nothing tells which of them hangs" in message
    assert message in told.said
    assert "hanging_workers.py" in log(told.storage, 1)  # a person can tell


@pytest.mark.parametrize("case", ["no_more"])
def test_hanging_counts_as_a_failure_and_says_so(told: Told) -> None:
    assert told.answer["error"] == "LaunchError"
    first = told.answer["message"].splitlines()[0]
    assert first.startswith("worker 1 failed in attempt 1: rank 1 on")
    assert "at step 3 in data since" in first
