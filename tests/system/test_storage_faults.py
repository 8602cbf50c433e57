"""Two Horovod workers train an energy-based model to an S3 server that fails in every way there is: nothing
is lost, and nothing is another number than without."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import jobs
from faults import Proxy
from lehr import checkpoint, spec
from lehr import journal as journals
from lehr import store as stores
from lehr.launch import admission, local
from lehr.store import Store
from system.test_resume import same_bits, wait_for_step

pytestmark = [pytest.mark.system, pytest.mark.slow]
STEPS, EVERY = 360, 20
SETS = (
    "strategy={kind: horovod, workers: 2}",
    f"train.duration={{steps: {STEPS}}}",
    "sampler.steps=40",
    f"checkpoint={{every: {{steps: {EVERY}}}, keep_last: 1000}}",
    "tracking.every={steps: 5}",
    "storage_options={endpoint_url: 'env:LEHR_TEST_ENDPOINT'}",
)
FAULT_S, CALM_S = 4.0, 2.0
Fault = tuple[str, dict[str, Any]]
# Ten minutes' worth of trouble, scaled down in time: for seconds at a time, or for single requests.
LASTING: list[Fault] = [
    ("refuse", {}),
    ("status", {"status": 503}),
    ("hang", {}),
    ("status", {"status": 500}),
    ("status", {"status": 403}),
    ("slow", {"delay_s": 1.0}),
]
SINGLE: list[Fault] = [
    ("cut", {"match": "GET"}),
    ("cut_request", {"match": r"PUT .*safetensors"}),
    ("lost_answer", {"match": r"PUT .*manifest"}),
    ("lost_answer", {"match": r"PUT .*journal"}),
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Store:
    plan = jobs.plan(jobs.EBM, *SETS[:-1])
    storage = jobs.storage(tmp_path_factory.mktemp("undisturbed"))
    admission.prepare(plan, storage.below(plan.run_id))
    assert local.spawn(plan, storage).status == "completed"
    return storage.below(plan.run_id)


def launch(folder: Path, url: str, name: str, endpoint: str) -> subprocess.Popen[str]:
    job = folder / "job.yaml"
    job.write_text(spec.text(spec.parse(jobs.EBM, sets=SETS)))
    command = [sys.executable, "-m", "lehr", "run", str(job), "--storage", url, "--run", name]
    return subprocess.Popen(
        command, env=os.environ | {"LEHR_TEST_ENDPOINT": endpoint}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def test_everything_that_a_store_can_do_to_a_run(
    undisturbed: Store, tmp_path: Path, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    url = f"s3://{s3.bucket()}/runs"
    left, events = list(LASTING), set[str]()
    with Proxy(s3.endpoint) as proxy:
        for number in range(4):  # on a fast machine one run ends before it has seen everything
            run = stores.connect(url).below(f"ebm-{number}")
            process = launch(tmp_path, url, f"ebm-{number}", proxy.url)
            try:
                wait_for_step(run, 10)
                left = disturb(proxy, process, left)
                said, _ = process.communicate(timeout=240)
            finally:
                process.kill()
            assert process.returncode == 0, said
            check(run, undisturbed)
            events |= {entry["event"] for entry in journals.read(run) if entry["type"] == "event"}
            if not left:
                break
    assert left == []
    assert {"storage_outage", "storage_back"} <= events


def check(run: Store, undisturbed: Store) -> None:
    """It lost nothing, and is bitwise the same."""
    assert journals.attempts(run) == [1]  # no fault cost an attempt
    same_bits(jobs.final(run)[1], jobs.final(undisturbed)[1])
    assert jobs.story(run) == jobs.story(undisturbed)
    manifests = [item.manifest for item in checkpoint.listing(run)]
    assert [m.step for m in manifests if m] == list(range(STEPS, 0, -EVERY))
    assert all(m is not None and checkpoint.verify(run, m) == [] for m in manifests)


def disturb(proxy: Proxy, process: subprocess.Popen[str], faults: list[Fault]) -> list[Fault]:
    """Fault after fault, with a rest after each, until the run ends; those that it did not meet."""
    singles = [proxy.fault(kind, nth=2, **settings) for kind, settings in SINGLE]
    try:
        for number, (kind, settings) in enumerate(faults):
            if process.poll() is not None:
                return faults[number:]
            with proxy.fault(kind, **settings):
                time.sleep(FAULT_S)
            time.sleep(CALM_S)
        return []
    finally:
        for single in singles:
            single.lift()
