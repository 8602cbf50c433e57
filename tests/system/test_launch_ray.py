"""Workers through Ray Train: on a cluster of the run's own, and on one that was there before."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

import jobs
from lehr.errors import LaunchError, UserError
from lehr.launch import train
from lehr.plan import Plan
from lehr.store import Store

pytestmark = [pytest.mark.system, pytest.mark.slow]
TESTS = Path(__file__).parents[1]


def plan(kind: str, *sets: str) -> Plan:
    return jobs.plan(jobs.LENET, f"strategy={{kind: {kind}, workers: 2}}", *sets)


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    store = jobs.storage(tmp_path)
    store.write("lenet/plan.json", b"{}")
    return store


def test_killed_worker_starts_the_group_again(storage: Store) -> None:
    run = storage.below("lenet")

    def kill() -> None:
        while run.size("processes/rank-1.a1") is None:
            time.sleep(0.1)
        os.kill(int(run.read("processes/rank-1.a1")), signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    outcome = train.run(plan("horovod"), storage, worker="launch_workers:wait_to_be_killed")
    assert (outcome.step, outcome.metrics) == (2, {"sum": 3.0}), "attempt 2 finished"
    processes = {key: int(run.read(key)) for key in run.list("processes")}
    assert len(set(processes.values())) == 4, "each worker of each attempt has a process of its own"
    assert "worker 1 of 2 in attempt 2" in run.read("logs/rank-0001.a2.log").decode()


def test_mistake_of_the_user_is_told_as_it_is_and_not_tried_again(storage: Store) -> None:
    with pytest.raises(UserError) as raised:
        train.run(plan("horovod"), storage, worker="launch_workers:refuse")
    assert str(raised.value) == "data.root: nothing is there\n  do: name another folder"
    assert storage.below("lenet").list("journal") == ["journal/attempt-0001.jsonl"]


def test_multiworker_workers_meet_with_keras_3(storage: Store) -> None:
    outcome = train.run(plan("multiworker"), storage, worker="launch_workers:reduce")
    assert outcome.metrics == {"sum": 3.0, "legacy": 0.0}


def test_no_cluster_at_the_address(storage: Store) -> None:
    with pytest.raises(LaunchError, match=r"--address 127\.0\.0\.1:1: no Ray cluster answers there"):
        train.run(plan("horovod"), storage, address="127.0.0.1:1")
