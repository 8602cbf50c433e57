"""Samples: made while training, and asked for afterwards."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import jobs
from lehr import journal
from lehr.launch import admission, local
from lehr.store import Store

pytestmark = [pytest.mark.system, pytest.mark.slow]


def lehr(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lehr", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def array(run: Store, key: str) -> np.ndarray:
    return np.load(io.BytesIO(run.read(key)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sampled")
    for text, sets in ((jobs.EBM, ["samples={every: {steps: 2}, count: 4, steps: 12}"]), (jobs.LENET, [])):
        plan = jobs.plan(text, "train.duration={steps: 4}", *sets)
        storage = jobs.storage(folder)
        admission.prepare(plan, storage.below(plan.run_id))
        local.spawn(plan, storage)
    return folder


def test_training_leaves_samples_at_their_cadence(folder: Path) -> None:
    run = jobs.storage(folder).below("ebm")
    assert [e["step"] for e in journal.read(run) if e.get("event") == "samples"] == [2, 4]
    meta = json.loads(run.read("samples/step-00000004/meta.json"))
    assert (meta["step"], meta["count"], meta["steps"]) == (4, 4, 12)
    assert meta["frame_steps"] == [0, 1, 3, 5, 10, 12]
    images = array(run, "samples/step-00000004/images.npy")
    assert images.shape == (4, 16, 16, 1)
    assert np.abs(images).max() <= 1.0
    early = array(run, "samples/step-00000002/frames.npy")
    late = array(run, "samples/step-00000004/frames.npy")
    np.testing.assert_array_equal(early[0], late[0])  # the same starts: two checkpoints on the same chains
    assert not np.array_equal(early[-1], late[-1])
    for name in ("grid", "strip", "energy"):
        PIL.Image.open(io.BytesIO(run.read(f"samples/step-00000004/{name}.png"))).verify()


def test_more_are_drawn_from_the_checkpoint_on_the_same_chains(folder: Path) -> None:
    done = lehr("sample", "ebm", "--count", "8", "--steps", "12", "--storage", str(folder))
    assert done.returncode == 0, done.stderr
    assert "grid.png" in done.stdout
    assert "oneDNN" not in done.stderr + done.stdout
    run = jobs.storage(folder).below("ebm")
    asked = array(run, "samples/step-00000004-count-8-steps-12/images.npy")
    assert asked.shape == (8, 16, 16, 1)
    np.testing.assert_allclose(asked[:4], array(run, "samples/step-00000004/images.npy"), atol=1e-5)
    PIL.Image.open(io.BytesIO(run.read("figures/curves.png"))).verify()


def test_what_has_no_sampler_is_told_so(folder: Path) -> None:
    done = lehr("sample", "lenet", "--storage", str(folder))
    assert done.returncode == 2
    assert "sampler" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_needs_its_plan_and_its_checkpoint_only(folder: Path) -> None:
    run = jobs.storage(folder).below("ebm")
    wanted = [key for key in run.list("checkpoints") if "/step-00000004.a1/" in key]
    for key in wanted:
        jobs.storage(folder).below("copy").write(key, run.read(key))
    copy = jobs.storage(folder).below("copy")
    copy.write("plan.json", run.read("plan.json"))
    done = lehr("sample", "copy", "--count", "4", "--steps", "12", "--storage", str(folder))
    assert done.returncode == 0, done.stderr
    images = array(copy, "samples/step-00000004-count-4-steps-12/images.npy")
    np.testing.assert_allclose(images, array(run, "samples/step-00000004/images.npy"), atol=1e-5)


def test_a_run_without_a_checkpoint_is_told_so(folder: Path) -> None:
    run = jobs.storage(folder).below("ebm")
    jobs.storage(folder).below("bare").write("plan.json", run.read("plan.json"))
    done = lehr("sample", "bare", "--storage", str(folder))
    assert done.returncode == 2
    assert "checkpoint" in done.stderr
    assert "Traceback" not in done.stderr
