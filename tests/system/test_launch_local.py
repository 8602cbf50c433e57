"""Workers as processes of this machine: they meet, they are started again, and their words arrive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

import jobs
from lehr.errors import LaunchError, UserError
from lehr.launch import local
from lehr.plan import Plan
from lehr.store import Store

pytestmark = [pytest.mark.system, pytest.mark.slow]
TESTS = Path(__file__).parents[1]


def plan(kind: str, *sets: str, workers: int = 2) -> Plan:
    return jobs.plan(jobs.LENET, f"strategy={{kind: {kind}, workers: {workers}}}", *sets)


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    store = jobs.storage(tmp_path)
    store.write("lenet/plan.json", b"{}")
    return store


def kill_first(run: Store, rank: int) -> threading.Thread:
    """A thread that kills worker `rank` of attempt 1 with SIGKILL once it has said which process it is."""

    def work() -> None:
        key = f"processes/rank-{rank}.a1"
        while run.size(key) is None:
            time.sleep(0.1)
        os.kill(int(run.read(key)), signal.SIGKILL)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_horovod_workers_meet(storage: Store) -> None:
    three = plan("horovod", "train.global_batch=60", workers=3)
    outcome = local.spawn(three, storage, worker="launch_workers:exchange")
    assert outcome.metrics == {"sum": 6.0, "attempt": 1.0, "threads": 1.0}


def test_killed_worker_starts_all_again(storage: Store) -> None:
    killer = kill_first(storage.below("lenet"), rank=1)
    outcome = local.spawn(plan("horovod"), storage, worker="launch_workers:wait_to_be_killed")
    killer.join(10)
    assert (outcome.step, outcome.metrics) == (2, {"sum": 3.0}), "attempt 2 finished"
    run = storage.below("lenet")
    processes = {key: int(run.read(key)) for key in run.list("processes")}
    assert len(set(processes.values())) == 4, "each worker of each attempt has a process of its own"
    assert "worker 0 of 2 in attempt 2" in run.read("logs/rank-0000.a2.log").decode()


def test_mistake_of_the_user_is_told_as_it_is_and_not_tried_again(storage: Store) -> None:
    with pytest.raises(UserError) as raised:
        local.spawn(plan("horovod"), storage, worker="launch_workers:refuse")
    assert str(raised.value) == "data.root: nothing is there\n  do: name another folder"
    assert storage.below("lenet").list("journal") == ["journal/attempt-0001.jsonl"]


def test_defect_is_told_with_the_end_of_the_right_log(storage: Store) -> None:
    with pytest.raises(LaunchError) as raised:
        local.spawn(plan("horovod", "recovery.max_failures=0"), storage, worker="launch_workers:stumble")
    said = str(raised.value)
    where = f"worker 1 on host {os.uname().nodename}"
    assert said.startswith(f"{where} failed in attempt 1: ZeroDivisionError: a defect\n")
    assert "about to divide" in said
    assert f"log: {storage.url}/lenet/logs/rank-0001.a1.log" in said


def test_workers_end_with_their_launcher(storage: Store) -> None:
    program = (
        "import sys, jobs, pathlib; from lehr.launch import local;"
        "plan = jobs.plan(jobs.LENET, 'strategy={kind: horovod, workers: 2}');"
        "storage = jobs.storage(pathlib.Path(sys.argv[1]));"
        "local.spawn(plan, storage, worker='launch_workers:wait_to_be_killed')"
    )
    launcher = subprocess.Popen([sys.executable, "-c", program, storage.url])
    run = storage.below("lenet")
    keys = [f"processes/rank-{rank}.a1" for rank in range(2)]
    try:
        wait_until(lambda: all(run.size(key) for key in keys))
    finally:
        launcher.kill()
        launcher.wait()
    processes = [int(run.read(key)) for key in keys]
    wait_until(lambda: not any(psutil.pid_exists(each) for each in processes))


def wait_until(condition: object, *, within_s: float = 60.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)
