"""A run that diverges goes back, does something otherwise, and is as exact as any other."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import jobs
from lehr import journal
from lehr.checkpoint import State
from lehr.launch import admission, local
from lehr.strategies.single import Single
from lehr.worker import divergence
from lehr.worker.divergence import MOST, NONE, Detour

# Batch 4 makes step 5; the newest checkpoint before it is that of step 3.
SETS = (
    "objective={kind: 'diverging:Diverging', regulariser: 0.1, data_noise: 0.005, at: 4, above: 6.0}",
    "sampler.steps=2",
    "train.duration={steps: 8}",
    "checkpoint={every: {steps: 3}, keep_last: 5}",
)


def trained(folder: Path, *sets: str, status: str = "completed", step: int = 8) -> tuple[State, list[Any]]:
    """Last state and turnings of a run."""
    plan = jobs.plan(jobs.EBM, *SETS, *sets)
    storage = jobs.storage(folder)
    run = storage.below(plan.run_id)
    admission.prepare(plan, run)
    outcome = local.spawn(plan, storage)
    assert (outcome.status, outcome.step) == (status, step), outcome.message
    turned = [entry for entry in journal.read(run) if entry.get("event") == "turned_back"]
    return jobs.final(run)[1], turned


def same(one: State, other: State) -> bool:
    arrays = [{**state.weights, **state.optimizer, **state.chains} for state in (one, other)]
    return all(np.array_equal(array, arrays[1][name]) for name, array in arrays[0].items())


@pytest.fixture(autouse=True)
def _workers_find_the_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[1])


@pytest.mark.system
@pytest.mark.slow
def test_a_rollback_passes_over_the_batches_up_to_the_divergence(tmp_path: Path) -> None:
    """And over none before: a worker that dies after it, and a run on two, come to the same."""
    state, turned = trained(tmp_path / "one", "recovery.on_divergence=rollback")
    assert [(entry["times"], entry["passed"], entry["halved"]) for entry in turned] == [(1, 2, 0)]
    assert state.progress[divergence.KEY] == {"times": 1, "halved": 0, "passed": 2}
    trained(tmp_path / "two", "recovery.on_divergence=rollback", "train.duration={steps: 6}", step=6)
    again, _ = trained(tmp_path / "two", "recovery.on_divergence=rollback")
    assert same(state, again)


@pytest.mark.system
@pytest.mark.slow
def test_halving_the_step_is_the_plan_with_half_of_it_from_there_on(tmp_path: Path) -> None:
    state, turned = trained(
        tmp_path / "halved", "recovery.on_divergence=halve_step", "strategy={kind: horovod, workers: 2}"
    )
    assert [(entry["times"], entry["passed"], entry["halved"]) for entry in turned] == [(1, 0, 1)]
    assert state.progress[divergence.KEY] == {"times": 1, "halved": 1, "passed": 0}


@pytest.mark.system
@pytest.mark.slow
def test_a_run_that_no_detour_helps_stops(tmp_path: Path) -> None:
    never = "objective={kind: 'diverging:Diverging', regulariser: 0.1, data_noise: 0.005, at: 4, above: 0}"
    _, turned = trained(tmp_path, "recovery.on_divergence=halve_step", never, status="diverged", step=5)
    assert [entry["halved"] for entry in turned] == list(range(1, MOST + 1))


def plan(rule: str, sampler: Any = None) -> Any:
    sets = [f"recovery.on_divergence={rule}"]
    return jobs.plan(jobs.LENET if sampler is None else jobs.EBM, *sets)


def test_what_is_done_is_what_the_job_says(tmp_path: Path) -> None:
    run, alone = jobs.storage(tmp_path), Single()
    assert divergence.next_one(run, plan("stop"), alone, NONE, step=7) is None
    assert divergence.next_one(run, plan("halve_step"), alone, Detour(1, 1, 4), step=7) == Detour(2, 2, 4)
    assert divergence.next_one(run, plan("rollback"), alone, Detour(1, 0, 4), step=7) == Detour(2, 0, 11)
    for rule in ("rollback", "halve_step"):
        assert divergence.next_one(run, plan(rule), alone, Detour(times=MOST), step=7) is None
    assert divergence.known({}) == NONE
    assert divergence.known({divergence.KEY: {"times": 2, "halved": 1, "passed": 9}}) == Detour(2, 1, 9)


def test_the_step_size_is_halved_where_there_is_one_else_the_learning_rate() -> None:
    detour, chains, none = Detour(2, 2, 0), plan("halve_step", "langevin"), plan("halve_step")
    rate = tf.Variable(0.1)
    named = {"optimizer/0001/learning_rate": rate, "weights/a": tf.Variable(1.0)}
    assert divergence.changed(chains, detour).spec.sampler.step_size == chains.spec.sampler.step_size / 4
    divergence.slow(named, chains, detour)
    assert rate.numpy() == np.float32(0.1)
    assert divergence.changed(none, detour) is none
    divergence.slow(named, none, detour)
    assert rate.numpy() == np.float32(0.025)
    assert divergence.changed(chains, Detour(1, 0, 3)) is chains


def test_a_checkpoint_of_no_numbers_is_none() -> None:
    good, bad = tf.Variable([1.0, 2.0]), tf.Variable([1.0, np.nan])
    assert divergence.finite({"weights/a": good, "optimizer/b": bad})
    assert not divergence.finite({"weights/a": good, "weights/b": bad})


def test_progress_says_nothing_where_nothing_is_changed() -> None:
    assert NONE.progress() == {}
    assert SimpleNamespace(**Detour(1, 0, 2).progress()[divergence.KEY]).passed == 2
