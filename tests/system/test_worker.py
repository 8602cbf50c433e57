"""One worker's life: precision, compilation, weights of another run, divergence, broken checkpoints."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jobs
from lehr import checkpoint, status
from lehr import journal as journals
from lehr.checkpoint import State
from lehr.errors import CheckpointError, UserError
from lehr.launch import admission, local, stopping
from lehr.launch.driver import Work
from lehr.store import Store

pytestmark = [pytest.mark.system, pytest.mark.slow]

SHORT = "train.duration={steps: 4}"


def train(text: str, folder: Path, *sets: str, run_id: str | None = None) -> tuple[Any, Store]:
    plan = jobs.plan(text, *sets, run_id=run_id)
    storage = jobs.storage(folder)
    run = storage.below(plan.run_id)
    admission.prepare(plan, run)
    return local.spawn(plan, storage), run


def events(run: Store, name: str) -> list[dict[str, Any]]:
    return [entry for entry in journals.read(run) if entry.get("event") == name]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, State, dict[str, float]]:
    folder = tmp_path_factory.mktemp("plain")
    outcome, run = train(jobs.EBM, folder, SHORT, "checkpoint.every={steps: 2}")
    return folder, jobs.final(run)[1], outcome.metrics


@pytest.mark.parametrize(("change", "tolerance"), [
    # XLA draws other noise at the same addresses (see dynamics/noise.py), of 0.005; and Adam's first updates
    # have the rate's size whatever the gradient's.
    ("train.compile=on", 5e-4),
    ("train.precision=mixed_bfloat16", 0.05),
    ("train.precision=mixed_float16", 0.05),
])  # fmt: skip
def test_precision_and_compilation(
    change: str, tolerance: float, plain: tuple[Path, State, dict[str, float]], tmp_path: Path
) -> None:
    outcome, run = train(jobs.EBM, tmp_path, SHORT, change)
    _, state = jobs.final(run)
    for name, value in plain[1].weights.items():
        assert state.weights[name].dtype == np.float32
        if value.any() and not name.endswith("bias"):
            apart = np.linalg.norm(state.weights[name] - value) / np.linalg.norm(value)
            assert apart < tolerance, f"{name}: {apart:.1e}"
    assert np.isfinite(list(outcome.metrics.values())).all()
    if "float16" in change and "bfloat16" not in change:
        assert state.optimizer["loss_scale/scale"] == 2.0**15  # no overflow: as it began
        assert state.optimizer["loss_scale/good_steps"] == 4
    else:
        assert not any(name.startswith("loss_scale") for name in state.optimizer)


def test_weights_of_another_run(plain: tuple[Path, State, dict[str, float]], tmp_path: Path) -> None:
    source = f"init_from={{run: '{plain[0] / 'ebm'}'}}"
    # A rate this small moves no weight: what is there at the end was there at the start.
    still = "train.optimizer={kind: sgd, learning_rate: 1.0e-30}"
    _, run = train(jobs.EBM, tmp_path, "train.duration={steps: 1}", source, still)
    _, state = jobs.final(run)
    for name, value in plain[1].weights.items():
        np.testing.assert_array_equal(state.weights[name], value, err_msg=name)
    [event] = events(run, "initialised_from")
    assert event["checkpoint"] == "step-00000004.a1"
    assert journals.read(run)[0]["from_step"] == 0


def test_weights_of_another_model_are_refused(
    plain: tuple[Path, State, dict[str, float]], tmp_path: Path
) -> None:
    source = f"init_from={{run: '{plain[0] / 'ebm'}'}}"
    with pytest.raises(UserError, match=r"conv_1/bias is \(16,\) there and \(8,\) here"):
        train(jobs.EBM, tmp_path, SHORT, source, "model.filters=[8, 16]")


def test_divergence_ends_the_run_and_says_so(tmp_path: Path) -> None:
    outcome, run = train(
        jobs.LENET,
        tmp_path,
        "train.optimizer.learning_rate=1.0e+38",
        "checkpoint.every={steps: 1}",
        "model.activation=relu",
    )
    assert outcome.status == "diverged"
    assert "training diverged" in outcome.message
    assert status.read(run).status == "diverged"
    assert journals.attempts(run) == [1]  # trying again would do the same
    assert journals.read(run)[-1]["outcome"] == "diverged"


def spoil(run: Store, name: str, file: str) -> None:
    data = bytearray(run.read(f"checkpoints/{name}/{file}"))
    data[len(data) // 2] ^= 1
    run.write(f"checkpoints/{name}/{file}", bytes(data))


def test_a_broken_checkpoint_is_passed_over_and_said(tmp_path: Path) -> None:
    sets = ("checkpoint={every: {steps: 2}, keep_last: 3}",)
    _, run = train(jobs.EBM, tmp_path, SHORT, *sets)
    spoil(run, "step-00000004.a1", "chains-0000-of-0001.safetensors")
    outcome, run = train(jobs.EBM, tmp_path, "train.duration={steps: 6}", *sets)
    assert outcome.step == 6
    second = journals.read_attempt(run, 2)
    assert second[0]["from_step"] == 2
    [skipped] = [entry for entry in second if entry.get("event") == "checkpoint_skipped"]
    assert skipped["checkpoint"] == "step-00000004.a1"
    assert "chains-0000-of-0001.safetensors" in skipped["reason"]
    _, fresh = train(jobs.EBM, tmp_path, "train.duration={steps: 6}", *sets, run_id="whole")
    expected = jobs.final(fresh)[1]
    for name, value in jobs.final(run)[1].weights.items():
        assert value.tobytes() == expected.weights[name].tobytes(), name


def test_it_never_starts_from_zero_silently(tmp_path: Path) -> None:
    _, run = train(jobs.EBM, tmp_path, SHORT, "checkpoint={every: {steps: 2}}")
    for item in checkpoint.listing(run):
        spoil(run, item.name, "weights.safetensors")
    with pytest.raises(CheckpointError, match="none can be loaded"):
        train(jobs.EBM, tmp_path, "train.duration={steps: 6}")
    assert json.loads(run.read("status.json"))["status"] == "failed"


def test_a_run_whose_last_checkpoint_is_not_saved_did_not_succeed(tmp_path: Path) -> None:
    (tmp_path / "ebm").mkdir()
    (tmp_path / "ebm" / "checkpoints").write_text("a file where a folder must be")
    stop = "recovery={on_storage_outage: stop, max_unsaved_minutes: 0.05}"
    with pytest.raises(CheckpointError, match=r"could not be saved .* the last one that was is none"):
        train(jobs.EBM, tmp_path, "train.duration={steps: 2}", stop)
    run = jobs.storage(tmp_path).below("ebm")
    assert [event["step"] for event in events(run, "storage_outage")] == [2]
    assert status.read(run).status == "failed"


def paused(folder: Path, *sets: str) -> tuple[Store, Work[Any], Path]:
    """A run whose checkpoints do not get through, once it pauses for that; and what is in their way."""
    obstacle = folder / "ebm" / "checkpoints"
    obstacle.parent.mkdir()
    obstacle.write_text("a file where a folder must be")
    run = jobs.storage(folder).below("ebm")
    pause = "recovery={on_storage_outage: pause, max_unsaved_minutes: 0.02}"
    every = ("train.duration={steps: 100000}", "checkpoint={every: {steps: 2}}", pause)
    work = Work(lambda: train(jobs.EBM, folder, *every, *sets))
    deadline = time.monotonic() + 300
    while not events(run, "paused"):
        assert time.monotonic() < deadline
        assert not work.done(within_s=0.1)
    return run, work, obstacle


@pytest.mark.parametrize("workers", ["strategy={kind: single}", "strategy={kind: horovod, workers: 2}"])
def test_a_run_that_pauses_for_its_storage_can_be_stopped(workers: str, tmp_path: Path) -> None:
    run, work, _ = paused(tmp_path, workers)
    stopping.ask(run)
    assert work.done(within_s=300)
    with pytest.raises(CheckpointError, match=r"could not be saved .* the last one that was is none"):
        work.answer()
    assert status.read(run).status == "failed"


def test_a_run_that_pauses_for_its_storage_goes_on_with_it(tmp_path: Path) -> None:
    run, work, obstacle = paused(tmp_path, "strategy={kind: horovod, workers: 2}")
    obstacle.unlink()
    deadline = time.monotonic() + 300
    while not events(run, "unpaused"):
        assert time.monotonic() < deadline
        assert not work.done(within_s=0.1)
    stopping.ask(run)
    assert work.done(within_s=300)
    outcome, _ = work.answer()
    assert (outcome.status, status.read(run).status) == ("stopped", "stopped")
    committed = [item.step for item in checkpoint.listing(run) if item.committed]
    assert committed[0] == outcome.step
    assert events(run, "storage_back")
