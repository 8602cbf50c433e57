"""kill -9 of any rank and of the driver, at every boundary of a checkpoint's commit: the next attempt goes on
from the newest good checkpoint, and the run ends with the bits of one that nobody killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dying_workers
import jobs
from dying_workers import Death
from lehr import checkpoint, spec
from lehr import journal as journals
from lehr.launch import admission, local
from lehr.store import Store
from system.test_resume import same_bits

pytestmark = [pytest.mark.system, pytest.mark.slow]
TESTS = Path(__file__).parents[1]
EVERY = 5
# (rank, the change at which it dies, whether that change is made, whether its checkpoint was committed)
BOUNDARIES = [
    (0, r"put .*/weights", False, False),  # before the first part
    (0, r"put .*/weights", True, False),  # between two parts
    (1, r"put .*/chains-0001", False, False),
    (1, r"put .*/chains-0001", True, False),  # a part, and nobody says that it is there
    (1, r"write .*/parts/rank-0001", True, False),
    (0, r"write .*/parts/rank-0000", True, False),  # all is there but the manifest
    (0, r"create .*/manifest", False, False),
    (0, r"create .*/manifest", True, True),
    (0, r"delete .*/manifest", False, True),  # retention, before it and amid it
    (0, r"delete .*/manifest", True, True),
    (0, r"delete .*/weights", True, True),
]
SETS = (
    "strategy={kind: horovod, workers: 2}",
    "sampler.steps=5",
    "recovery.max_failures=20",
    f"train.duration={{steps: {EVERY * (2 * len(BOUNDARIES) + 2)}}}",
    f"checkpoint={{every: {{steps: {EVERY}}}, keep_last: 2}}",
    "tracking.every={steps: 5}",
)
DRIVER = """
import json, pathlib, sys
import jobs
from lehr import spec, store
from lehr import plan as plans
from lehr.launch import admission, local

file, url = sys.argv[1:]
plan = plans.make(spec.load(file))
base = store.connect(url, plan.storage_options())
admission.prepare(plan, base.below(plan.run_id))
print(local.spawn(plan, base, worker="dying_workers:main").status)
"""


def schedule(boundaries: list[tuple[int, str, bool, bool]], whom: str) -> tuple[list[Death], list[int]]:
    """Each attempt commits a checkpoint and dies at a boundary of its second; where each attempt begins."""
    deaths, begins = [], [0]
    for attempt, (rank, match, after, committed) in enumerate(boundaries, start=1):
        # The first two checkpoints of a run are not followed by a deletion; later ones are, each time.
        nth = 1 if "delete" in match else 2
        # A new attempt writes into folders of earlier ones, too: it seals what they left open.
        mine = match if "delete" in match else match.replace("/", rf"\.a{attempt}/", 1)
        deaths.append(Death(attempt, rank, mine, nth, after, whom))
        begins.append(begins[-1] + EVERY * (2 if committed and nth == 2 else 1))
    return deaths, begins


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("undisturbed")
    plan = jobs.plan(jobs.EBM, *SETS)
    run = jobs.storage(folder).below(plan.run_id)
    admission.prepare(plan, run)
    assert local.spawn(plan, jobs.storage(folder)).status == "completed"
    return run


def drive(folder: Path, url: str, deaths: list[Death]) -> subprocess.CompletedProcess[str]:
    job = folder / "job.yaml"
    job.write_text(spec.text(spec.parse(jobs.EBM, sets=SETS)))
    environment = os.environ | {"PYTHONPATH": str(TESTS)} | dying_workers.environment(deaths)
    return subprocess.run(
        [sys.executable, "-c", DRIVER, str(job), url], env=environment, text=True, timeout=500,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def check(run: Store, begins: list[int], expected: Store) -> None:
    starts = [
        next(entry for entry in journals.read_attempt(run, attempt) if entry["type"] == "start")
        for attempt in journals.attempts(run)
    ]
    assert [start["from_step"] for start in starts] == begins
    same_bits(jobs.final(run)[1], jobs.final(expected)[1])
    assert jobs.story(run) == jobs.story(expected)
    for item in checkpoint.listing(run):
        assert item.manifest is None or checkpoint.verify(run, item.manifest) == []


def test_a_rank_that_dies_at_any_boundary(
    undisturbed: Store, tmp_path: Path, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    deaths, begins = schedule(BOUNDARIES, "self")
    from lehr import store as stores

    url = f"s3://{s3.bucket()}/runs"
    said = drive(tmp_path, url, deaths)
    assert said.stdout.strip().endswith("completed"), said.stdout
    check(stores.connect(url).below("ebm"), begins, undisturbed)


def test_a_driver_that_dies_at_any_boundary(undisturbed: Store, tmp_path: Path) -> None:
    boundaries = [each for each in BOUNDARIES if each[0] == 0][::2]
    deaths, begins = schedule(boundaries, "parent")
    for _ in deaths:
        assert drive(tmp_path, str(tmp_path), deaths).returncode == -signal.SIGKILL
    said = drive(tmp_path, str(tmp_path), deaths)
    assert said.stdout.strip().endswith("completed"), said.stdout
    check(jobs.storage(tmp_path).below("ebm"), begins, undisturbed)
