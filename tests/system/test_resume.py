"""A run that is killed and resumed ends with the bits of one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jobs
from lehr import journal as journals
from lehr import spec
from lehr.checkpoint import State
from lehr.launch import admission, local
from lehr.store import Store

SETS = (
    "strategy={kind: horovod, workers: 2}",
    "train.duration={steps: 24}",
    "sampler.steps=40",
    "checkpoint.every={steps: 4}",
    "tracking.every={steps: 3}",
)


def same_bits(one: State, other: State) -> None:
    for part in ("weights", "optimizer", "chains"):
        mine, theirs = getattr(one, part), getattr(other, part)
        assert mine.keys() == theirs.keys()
        for name in mine:
            assert mine[name].tobytes() == theirs[name].tobytes(), f"{part} {name}"
    assert one.progress == other.progress


def wait_for_step(run: Store, step: int, *, timeout_s: float = 120) -> dict[str, Any]:
    """The start entry of the attempt that has reached `step`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for attempt in journals.attempts(run)[-1:]:
            entries = journals.read_attempt(run, attempt)
            if any(e["type"] == "metrics" and e["step"] >= step for e in entries):
                return entries[0]
        time.sleep(0.05)
    raise AssertionError(f"step {step} was not reached within {timeout_s} s")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Store:
    plan = jobs.plan(jobs.EBM, *SETS)
    storage = jobs.storage(tmp_path_factory.mktemp("undisturbed"))
    run = storage.below(plan.run_id)
    admission.prepare(plan, run)
    assert local.spawn(plan, storage).status == "completed"
    assert journals.attempts(run) == [1]
    return run


def launch(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    job = folder / "job.yaml"
    job.write_text(spec.text(spec.parse(jobs.EBM, sets=SETS)))
    command = [sys.executable, "-m", "lehr", "run", str(job), "--storage", str(folder), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_worker_is_replaced_and_nothing_changes(
    rank: int, undisturbed: Store, tmp_path: Path
) -> None:
    process = launch(tmp_path)
    run = jobs.storage(tmp_path).below("ebm")
    start = wait_for_step(run, 9)
    os.kill(start["processes"][rank], signal.SIGKILL)
    text, _ = process.communicate(timeout=240)
    assert process.returncode == 0, text
    assert journals.attempts(run) == [1, 2], text
    began = journals.read_attempt(run, 2)[0]
    assert 4 <= began["from_step"] < 24
    assert not set(began["processes"]) & set(start["processes"])  # new processes
    same_bits(jobs.final(run)[1], jobs.final(undisturbed)[1])
    assert jobs.story(run) == jobs.story(undisturbed)


@pytest.mark.system
@pytest.mark.slow
def test_the_same_command_goes_on_where_it_was_stopped_with_other_workers(
    undisturbed: Store, tmp_path: Path
) -> None:
    process = launch(tmp_path)
    run = jobs.storage(tmp_path).below("ebm")
    wait_for_step(run, 6)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=120)
    stopped, _ = jobs.final(run)
    assert 6 <= stopped.step < 24, text
    again = launch(tmp_path, "--local", "--set", "strategy.workers=1")
    text, _ = again.communicate(timeout=240)
    assert again.returncode == 0, text
    assert journals.read_attempt(run, 2)[0]["from_step"] == stopped.step
    manifest, state = jobs.final(run)
    assert (manifest.step, manifest.workers) == (24, 1)
    _, expected = jobs.final(undisturbed)
    for name, value in expected.weights.items():
        np.testing.assert_allclose(state.weights[name], value, rtol=1e-3, atol=2e-5, err_msg=name)
