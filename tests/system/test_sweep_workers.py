"""Trials on Ray: of several workers, counted as wholes; of one, in a process that had others before."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import jobs
import ray_sweeps
from lehr import journal, spec
from lehr.launch import admission, local
from lehr.store import Store
from lehr.sweep import program
from ray_sweeps import SEARCH, SMALL, Site, events, once
from system.test_resume import same_bits

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(900)]
TRIALS = 3
EBM = spec.text(
    spec.parse(jobs.EBM + SEARCH, sets=(*SMALL, "sampler.steps=5", "search.metric=train/loss",
                                        f"search.trials={TRIALS}"))
)  # fmt: skip
GROUPS = """
import json, ray
ray.init("{}", log_to_driver=False, logging_level="CRITICAL")
print(json.dumps([group["state"] for group in ray.util.placement_group_table().values()]))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with ray_sweeps.cluster(cpus=2) as there:
        yield Site(tmp_path_factory.mktemp("site"), there)


def test_two_horovod_workers_a_trial(site: Site) -> None:
    site.lehr(*site.words("pairs", ray_sweeps.LENET, "strategy={kind: horovod, workers: 2}",
                          f"search.trials={TRIALS}"))  # fmt: skip
    trials = once(site.sweep("pairs"), TRIALS)
    assert {trial.last.outcome for trial in trials.values()} == {"completed"}
    for number in trials:
        assert begun(site.trial("pairs", number))["workers"] == 2
    assert at_once(site.sweep("pairs")) == 1  # two were asked for, and one fits
    assert set(groups(site)) == {"REMOVED"}


def begun(run: Store) -> journal.Entry:
    """The start entry of a run that had one attempt."""
    [attempt] = journal.attempts(run)
    return next(entry for entry in journal.read_attempt(run, attempt) if entry["type"] == "start")


def at_once(sweep: Store) -> int:
    """The most trials that ran at the same time."""
    steps = [{"trial": 1, "ended": -1}.get(entry.get("event", ""), 0) for entry in events(sweep)]
    return max(sum(steps[: place + 1]) for place in range(len(steps)))


def groups(site: Site) -> list[str]:
    """The states of all placement groups that there ever were on the cluster."""
    assert site.on is not None
    said = subprocess.run(
        [sys.executable, "-c", GROUPS.format(site.on.address)],
        env=site.on.environment, capture_output=True, text=True, timeout=ray_sweeps.PATIENCE_S,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    states: list[str] = json.loads(said.stdout.splitlines()[-1])
    return states


def test_a_used_process_trains_as_a_fresh_one(site: Site, tmp_path: Path) -> None:
    site.lehr(*site.words("used", EBM, "search.concurrent=1"))
    trials = once(site.sweep("used"), TRIALS)
    runs = [site.trial("used", number) for number in trials]
    assert len({begun(run)["processes"][0] for run in runs}) == 1  # all had the same
    there = program.restore(json.loads(site.sweep("used").read("sweep.json")))
    for number, run in zip(trials, runs, strict=True):
        plan = there.plan(trials[number].last.start)
        admission.prepare(plan, jobs.storage(tmp_path).below(plan.run_id))
        assert local.spawn(plan, jobs.storage(tmp_path)).status == "completed"
        fresh = jobs.storage(tmp_path).below(plan.run_id)
        same_bits(jobs.final(run)[1], jobs.final(fresh)[1])
        assert jobs.story(run) == jobs.story(fresh)
