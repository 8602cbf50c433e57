"""The same job on 1, 2 and 4 replicas, under every strategy, gives the same numbers.

Tolerances, of the norm of each variable's difference to the norm of the variable itself:

- LeNet: 1e-5.
- EBM: 1e-5 for kernels. Adam divides a gradient by its own size, so where a gradient is nearly zero the order
  of summation decides a visible part of the update: biases, which start from zero and have moved by ten
  updates only, hold BIAS.
- Chains hold 1e-5 of the range of a pixel in all but a share of ODD pixels: the gradient that moves them is
  multiplied by the step size of 10 in each of 100 Langevin steps.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import jobs
from lehr.checkpoint import State
from lehr.launch import admission, local

BIAS, ODD = 1e-4, 1e-3
STRATEGIES = {
    "mirrored-2": "strategy={kind: mirrored, devices_per_worker: 2}",
    "multiworker-2": "strategy={kind: multiworker, workers: 2}",
    "horovod-1": "strategy={kind: horovod, workers: 1}",
    "horovod-2": "strategy={kind: horovod, workers: 2}",
    "horovod-4": "strategy={kind: horovod, workers: 4}",
}


class Trained(NamedTuple):
    """The last state of a run, and its metrics by step: those that do not depend on time."""

    state: State
    story: list[tuple[int, dict[str, float]]]


def trained(text: str, folder: Path, *sets: str) -> Trained:
    plan = jobs.plan(text, *sets)
    storage = jobs.storage(folder)
    admission.prepare(plan, storage.below(plan.run_id))
    outcome = local.spawn(plan, storage)
    assert (outcome.status, outcome.step) == ("completed", 10)
    run = storage.below(plan.run_id)
    return Trained(jobs.final(run)[1], jobs.story(run))


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Norm of the difference over the norm, both float64; 0 for two zeros."""
    norm = float(np.linalg.norm(other.astype(np.float64)))
    apart = float(np.linalg.norm(one.astype(np.float64) - other.astype(np.float64)))
    return apart / norm if norm else apart


@pytest.fixture(scope="module", params=["ebm", "lenet"])
def alone(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str, Trained]:
    text = {"ebm": jobs.EBM, "lenet": jobs.LENET}[request.param]
    return request.param, text, trained(text, tmp_path_factory.mktemp(request.param))


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_gives_the_numbers_of_one_replica(
    strategy: str, alone: tuple[str, str, Trained], tmp_path: Path
) -> None:
    name, text, (single, _) = alone
    state, _ = trained(text, tmp_path, STRATEGIES[strategy])
    assert state.weights.keys() == single.weights.keys()
    far = {key: distance(state.weights[key], single.weights[key]) for key in single.weights}
    print(f"{name} {strategy}: worst weight {max(far, key=far.get)} {max(far.values()):.1e}")
    for key, value in far.items():
        assert value < (BIAS if name == "ebm" and key.endswith("bias") else 1e-5), (key, value)
    for key, array in single.chains.items():
        if array.dtype == np.float32:
            odd = float((np.abs(state.chains[key] - array) > 2e-5).mean())
            assert odd < ODD, f"{key}: {odd:.1e} of the pixels differ"
        else:
            np.testing.assert_array_equal(state.chains[key], array, err_msg=key)


@pytest.mark.system
@pytest.mark.slow
def test_the_numbers_are_those_of_before(alone: tuple[str, str, Trained]) -> None:
    """Losses of ten steps, kept at full precision: a change of structure must not move them.

    The tolerance is for other processors; on one and the same they are equal. A change that is meant to move
    them writes them anew: `python tests/golden/write.py`.
    """
    name, _, (_, story) = alone
    golden = json.loads((Path(__file__).parents[1] / "golden" / f"{name}.json").read_text())
    assert [step for step, _ in story] == [step for step, _ in golden]
    for (step, values), (_, expected) in zip(story, golden, strict=True):
        assert values == pytest.approx(expected, rel=1e-3, abs=1e-6), step
