"""Each kind of generative model: the numbers of one replica under each strategy; resumed bit for bit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import jobs
import kinds
from lehr.launch import admission, local
from lehr.store import Store
from system.test_exactness import distance
from system.test_resume import same_bits

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(1800)]  # the first waits for most
STRATEGIES = {
    "single": "strategy={kind: single}",
    "mirrored": "strategy={kind: mirrored, devices_per_worker: 2}",
    "multiworker": "strategy={kind: multiworker, workers: 2}",
    "horovod": "strategy={kind: horovod, workers: 2}",
}
FAR = 1e-4  # of the norm: Adam makes visible what rounding leaves of a gradient that is nearly zero


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Store]]]:
    """The runs of all kinds by strategy, trained one strategy after another."""
    folder = tmp_path_factory.mktemp("recipes")
    kinds.recipes(folder)
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setenv(kinds.RECIPES, str(folder))
        patch.setenv(
            "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
        )
        yield {
            name: pool.submit(trained, tmp_path_factory.mktemp(name), one) for name, one in STRATEGIES.items()
        }
        pool.shutdown(cancel_futures=True)


def trained(folder: Path, strategy: str) -> Store:
    plan, storage = kinds.plan(next(iter(kinds.KINDS)), strategy), jobs.storage(folder)
    admission.prepare(plan, storage.below(plan.run_id))
    assert local.spawn(plan, storage, worker="kinds:train").status == "completed"
    return storage


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "single"])
@pytest.mark.parametrize("kind", kinds.KINDS)
def test_every_strategy_gives_the_numbers_of_one_replica(
    kind: str, strategy: str, stores: dict[str, Future[Store]]
) -> None:
    single, other = (jobs.final(stores[name].result().below(kind), slots=32) for name in ("single", strategy))
    assert single[0].step == other[0].step == kinds.STEPS
    assert single[1].weights.keys() == other[1].weights.keys()
    for name, value in single[1].weights.items():
        assert distance(other[1].weights[name], value) < FAR, name
    for name, value in single[1].chains.items():
        np.testing.assert_array_equal(other[1].chains[name], value, err_msg=name)


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_a_resumed_run_has_the_same_bits(kind: str, stores: dict[str, Future[Store]]) -> None:
    store = stores["single"].result()
    whole, again = (jobs.final(store.below(name), slots=32) for name in (kind, f"{kind}-again"))
    assert (whole[0].step, again[0].attempt) == (kinds.STEPS, 2)
    same_bits(whole[1], again[1])
