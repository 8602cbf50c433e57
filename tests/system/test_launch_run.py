"""`lehr run` as a user runs it: continuing, refusing, stopping, dying."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import jobs
from lehr import checkpoint, journal, status
from lehr.store import Store

pytestmark = [pytest.mark.system, pytest.mark.slow]
LEHR = str(Path(sys.executable).with_name("lehr"))
LONG = "train.duration={steps: 100000}"
PATIENCE_S = 120.0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "lenet.yaml").write_text(jobs.LENET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)  # let TensorFlow talk
    return tmp_path


def lehr(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LEHR, "run", "lenet.yaml", *arguments], capture_output=True, text=True, timeout=PATIENCE_S
    )


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`lehr run` in a process group of its own, as a shell starts it."""
    command = [LEHR, "run", "lenet.yaml", *arguments]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    family: list[psutil.Process] = []
    try:
        yield process
    finally:
        with contextlib.suppress(psutil.Error):
            family = psutil.Process(process.pid).children(recursive=True)
        for each in family:
            with contextlib.suppress(psutil.Error):
                each.kill()
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool], *, within_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)


def reached(run: Store, step: int, *, attempt: int) -> bool:
    now = status.read(run)
    return now is not None and (now.status, now.attempt) == ("running", attempt) and now.step >= step


def gone(processes: list[psutil.Process]) -> bool:
    return not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes)


def test_same_command_continues_and_other_settings_are_refused(folder: Path) -> None:
    done = lehr("--local")
    assert done.returncode == 0, done.stderr
    assert "lenet: completed at step 10 of 10" in done.stdout
    for chatter in ("oneDNN", "absl", "cuda", "retracing"):
        assert chatter not in done.stdout + done.stderr
    run = jobs.storage(folder / "runs" / "lenet")
    assert "oneDNN" in run.read("logs/rank-0000.a1.log").decode()

    before = {key: run.read(key) for key in run.list()}
    again = lehr("--local")
    assert (again.returncode, again.stdout.splitlines()[0]) == (
        0, "run lenet is complete: 10 of 10 steps are done"
    )  # fmt: skip
    other = lehr("--local", "--set", "train.seed=7")
    assert other.returncode == 2
    assert "train.seed: 0 -> 7" in other.stderr
    assert {key: run.read(key) for key in run.list()} == before, "nothing was written"

    longer = lehr("--local", "--set", "train.duration={steps: 15}")
    assert longer.returncode == 0, longer.stderr
    assert "lenet: single, 1 worker, 15 steps, going on from step 10" in longer.stderr
    assert [entry["from_step"] for entry in journal.read(run) if entry["type"] == "start"] == [0, 10]


def test_driver_may_die_and_be_stopped(folder: Path) -> None:
    """Under Ray: a driver killed with -9 takes all with it; the next one continues, and Ctrl-C ends it."""
    run = jobs.storage(folder / "runs" / "lenet")
    arguments = ("--set", LONG, "--set", "strategy={kind: horovod, workers: 2}")
    with started(*arguments) as process:
        wait_until(lambda: reached(run, 5, attempt=1))
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) > 4, "Ray and the workers"
        agents = [each for each in family if each.name().endswith("Agent")]
        process.kill()
        process.wait()
        # Ray's two agents, which hold nothing of ours, notice after a minute.
        wait_until(lambda: gone([each for each in family if each not in agents]), within_s=20)

    with started(*arguments) as process:
        wait_until(lambda: reached(run, 20, attempt=2))
        family = psutil.Process(process.pid).children(recursive=True)
        second = lehr(*arguments)
        assert (second.returncode, "it is being trained right now" in second.stderr) == (2, True), (
            second.stderr
        )
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
        said, _ = process.communicate(timeout=240)
        assert process.returncode == 130
        assert gone(family)
    now = status.read(run)
    assert now is not None
    assert (now.status, now.attempt) == ("stopped", 2)
    newest = checkpoint.newest(run).manifest
    assert newest is not None
    assert newest.step == now.step, "the last step is in a checkpoint"
    assert f"lenet: stopped at step {now.step} of 100000" in said
    assert "Traceback" not in said
    assert "raylet" not in said
