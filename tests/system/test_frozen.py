"""An old attempt that is frozen while a new one runs, and thawed when that is done, changes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import dying_workers
import jobs
from dying_workers import Death
from lehr import checkpoint, spec, status
from lehr import journal as journals
from lehr import store as stores
from lehr.launch import admission
from lehr.store import Store

pytestmark = [pytest.mark.system, pytest.mark.slow]
TESTS = Path(__file__).parents[1]
SETS = (
    "train.duration={steps: 40}",
    "checkpoint={every: {steps: 5}, keep_last: 2}",
    "tracking={every: {steps: 1}, wandb: {project: lehr, mode: offline}}",
    "sampler.steps=40",
    "samples={every: {steps: 10}, count: 4, steps: 10}",
)
WORKER = """
import os, sys
import dying_workers, jobs
from lehr import spec, store
from lehr import plan as plans

plan = plans.make(spec.load(sys.argv[1]))
print(dying_workers.main(plan, storage=store.connect(sys.argv[2])).status)
"""


def start(folder: Path, url: str, attempt: int, deaths: list[Death]) -> subprocess.Popen[str]:
    job = folder / "job.yaml"
    job.write_text(spec.text(spec.parse(jobs.EBM, sets=SETS)))
    environment = os.environ | {"PYTHONPATH": str(TESTS), "LEHR_ATTEMPT": str(attempt)}
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(job), url], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, env=environment | dying_workers.environment(deaths),
    )  # fmt: skip


def wait_for(process: subprocess.Popen[str], *states: str, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while psutil.Process(process.pid).status() not in states:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"it is {psutil.Process(process.pid).status()}"
        time.sleep(0.1)


def content(run: Store) -> dict[str, bytes]:
    """All keys that readers look at: not what the old attempt's own log, and W&B's, say at its end."""
    keys = [key for key in run.list() if not key.startswith(("logs/", "wandb/"))]
    return {key: bytes(run.read(key)) for key in keys}


def seen(run: Store) -> list[Any]:
    """What readers make of it."""
    said = status.read(run)
    assert said is not None
    how = (said.status, said.step, said.steps, said.attempt)
    committed = [item for item in checkpoint.listing(run) if item.committed]
    return [checkpoint.newest(run), journals.read(run), how, committed]


def may_change(key: str) -> bool:
    """The call in the middle of which it was frozen still happens: a part without a manifest, or the rest of
    a deletion, in a folder of its own that is no checkpoint (any more); lines of its journal after those that
    the new attempt lets count; a status: readers look at the newest attempt, too. `seen` is as it was."""
    return ".a1/" in key or key in (journals.key(1), status.KEY)


MOMENTS = {  # the change at which it is frozen, and whether the change is made first
    "parts": (r"put .*step-00000010.*/weights", False),
    "before the manifest": (r"create .*step-00000010.*/manifest", False),  # the fence has said yes
    "after the manifest": (r"create .*step-00000010.*/manifest", True),
    "deletion": (r"delete .*/manifest", False),
    "status": (r"write .*status.json", False),
    "journal": (r"append .*journal|write .*journal", False),
}


@pytest.mark.parametrize(
    ("where", "moment"),
    [("folder", moment) for moment in MOMENTS]
    + [pytest.param("s3", moment, marks=pytest.mark.s3) for moment in ("before the manifest", "journal")],
)
def test_a_frozen_attempt_changes_nothing_when_it_thaws(
    where: str, moment: str, tmp_path: Path, request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    url, (match, done) = str(tmp_path / "runs"), MOMENTS[moment]
    if where == "s3":
        s3: Any = request.getfixturevalue("s3")
        for name, value in s3.environment().items():
            monkeypatch.setenv(name, value)
        url = f"s3://{s3.bucket()}/runs"
    run = stores.connect(url).below("ebm")
    admission.prepare(jobs.plan(jobs.EBM, *SETS), run)
    old = start(
        tmp_path, url, 1, [Death(1, 0, match, 2 if "status" in match else 1, done, "self", "SIGSTOP")]
    )
    try:
        wait_for(old, psutil.STATUS_STOPPED)
        new = start(tmp_path, url, 2, [])
        said, _ = new.communicate(timeout=240)
        assert said.strip().endswith("completed"), said
        before, told = content(run), seen(run)
        os.kill(old.pid, signal.SIGCONT)
        said, _ = old.communicate(timeout=240)
    finally:
        old.kill()
    assert old.returncode != 0, said
    assert "a later one at this run has begun" in said or "a later attempt at this run has begun" in said
    after = content(run)
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert [key for key in changed if not may_change(key)] == []
    assert seen(run) == told
    assert journals.attempts(run) == [1, 2]
    manifest, _ = jobs.final(run)
    assert (manifest.step, manifest.attempt) == (40, 2)
    assert [item.problem for item in checkpoint.listing(run) if item.committed] == ["", ""]
