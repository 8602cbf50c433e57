"""Waiting for a run: what it answers, and what signals do. Processes of their own, where signals are real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fakes import FailingStore
from lehr import store as stores
from lehr.errors import UserError
from lehr.launch import driver, stopping
from lehr.store import Store
from lehr.worker.outcome import Outcome

# A "run" that ends when it is asked to stop, or never; it has a child, as a run has workers.
PROGRAM = """
import subprocess, sys, time
from lehr import store as stores
from lehr.launch import driver, stopping
from lehr.worker.outcome import Outcome

run = stores.connect(sys.argv[1])
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)

def work():
    run.write("begun", str(child.pid).encode())
    while run.size(stopping.KEY) is None or sys.argv[2] == "deaf":
        time.sleep(0.02)
    child.kill()
    return Outcome("stopped", 3)

print(driver.drive(work, run, tick=lambda: None, say=lambda text: print(text, flush=True)), flush=True)
"""


@pytest.fixture
def run(tmp_path: Path) -> Store:
    return stores.connect(str(tmp_path))


def started(run: Store, how: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, run.url, how], stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 90
    while run.size("begun") is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def test_answer_of_the_work_is_returned_and_ticks_go_on(run: Store) -> None:
    ticks: list[float] = []

    def work() -> Outcome:
        time.sleep(3 * driver.BEAT_S)
        return Outcome("completed", 5)

    outcome, number = driver.drive(work, run, tick=lambda: ticks.append(time.monotonic()), say=print)
    assert (outcome.step, number) == (5, None)
    assert len(ticks) >= 2


def test_error_of_the_work_is_raised_here(run: Store) -> None:
    def work() -> Outcome:
        raise UserError("data.root: nothing is there")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(UserError, match="nothing is there"):
        driver.drive(work, run, tick=lambda: None, say=print)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_asks_for_a_clean_stop(number: signal.Signals, run: Store) -> None:
    process = started(run, "willing")
    process.send_signal(number)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert (
        said.splitlines()[0]
        == "stopping: finishing the step and making a checkpoint; once more kills at once"
    )
    assert f"Outcome(status='stopped', step=3, metrics={{}}, message=''), {int(number)})" in said
    assert run.size(stopping.KEY) is None, "the next start is not asked to stop"


def test_second_signal_kills_all_at_once(run: Store) -> None:
    process = started(run, "deaf")
    child = int(run.read("begun"))
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert "stopping" in process.stdout.readline()
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert time.monotonic() - began < 5
    assert "killed; what was done since the last checkpoint is lost" in said
    assert not Path(f"/proc/{child}/cmdline").exists() or not Path(f"/proc/{child}/cmdline").read_bytes()


def test_a_wish_to_stop_is_told_again_until_the_storage_takes_it(
    run: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "ASK_S", 0.01)
    store, said = FailingStore(run, lambda number: number <= 3), list[str]()

    def work() -> Outcome:
        os.kill(os.getpid(), signal.SIGINT)
        deadline = time.monotonic() + 90
        while run.size(stopping.KEY) is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return Outcome("stopped", 3)

    outcome, number = driver.drive(work, store, tick=lambda: None, say=said.append)
    assert (outcome.step, number) == (3, signal.SIGINT)
    assert len(said) == 2, "the outage is said once"
    assert "does not take the wish to stop yet" in said[1]
    assert run.size(stopping.KEY) is None


def test_an_answer_is_not_lost_to_a_storage_that_fails_at_the_end(run: Store) -> None:
    def work() -> Outcome:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(2 * driver.BEAT_S)
        raise UserError("the reason")

    with pytest.raises(UserError, match="the reason"):
        driver.drive(work, FailingStore(run, lambda number: True), tick=lambda: None, say=lambda text: None)
