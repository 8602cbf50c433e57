"""A trained run is evaluated: by the command, into its journal; and spread over Ray, to the same numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import jobs
from lehr.evaluations import records
from lehr.store import Store

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(900)]
TESTS = Path(__file__).parents[1]
JOB = """
version: 1
name: ebm
model: {kind: ebm, filters: [8, 8], hidden: 16}
data: {kind: digits, image_size: 12, range: [-1, 1], train_examples: 200}
train: {global_batch: 64, duration: {steps: 4}, optimizer: {kind: adam, learning_rate: 1.0e-3}}
sampler: {kind: langevin, steps: 5, buffer: {size: 512}}
checkpoint: {every: {steps: 4}}
"""
# All in one process, which loads TensorFlow once: the commands, and what `--address` does.
DRIVER = """
import dataclasses, json, sys
from pathlib import Path
from lehr import checkpoint, plan as plans, store
from lehr.cli import app
from lehr.evaluations.asking import Question
from lehr.launch import evaluation, taken

def lehr(*words):
    sys.argv = ["lehr", *words]
    try:
        app.main()
    except SystemExit as left:
        assert not left.code, (words, left.code)

job, storage = sys.argv[1:]
lehr("run", job, "--local", "--storage", storage)
lehr("evaluate", "ebm", "--storage", storage, "--count", "96", "--steps", "10", "--baselines")
lehr("show", "ebm", "--storage", storage)
run = store.connect(storage).below("ebm")
plan = plans.restore(json.loads(run.read("plan.json")))
question = Question(
    subject=taken.trained(run, plan, checkpoint.newest(run).manifest), extractor=taken.extractor(plan),
    metrics=("validation", "fid", "kid", "precision", "recall"), count=90, seed=0, settings={"steps": 10},
    portion=40)
here = evaluation.here(question)
there = evaluation.on_ray(question, run, address=None, tasks=2)
print("answer:", json.dumps([dataclasses.asdict(here), dataclasses.asdict(there)]))
"""


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str]:
    """The run's folder, and what was said."""
    folder = tmp_path_factory.mktemp("evaluate")
    job = folder / "job.yaml"
    job.write_text(JOB)
    environment = os.environ | {"LEHR_CACHE": str(folder / "cache"), "PYTHONPATH": str(TESTS)}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(job), str(folder / "runs")],
        capture_output=True, text=True, timeout=850, env=environment, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return jobs.storage(folder / "runs").below("ebm"), done.stdout


def test_numbers_of_a_trained_run_are_in_its_journal(evaluated: tuple[Store, str]) -> None:
    run, said = evaluated
    [entry] = records.read(run)
    assert (entry["type"], entry["event"], entry["step"], entry["attempt"]) == ("event", "evaluation", 4, 1)
    assert entry["checkpoint"]["name"] == "step-00000004.a1"
    assert entry["counts"] == {"samples": 96, "untrained": 96, "held_out": 297, "noise": 96, "data": 200}
    values = entry["values"]
    trained = next(
        line["values"] for line in jobs.journal.read(run) if "validation/real_score" in line.get("values", {})
    )
    assert values["validation/real_score"] == pytest.approx(
        trained["validation/real_score"], rel=1e-4, abs=1e-5
    )
    # Data is like data, and noise is not; a model of four steps is near noise.
    assert values["held_out/fid_lenet"] < 0.2 * values["noise/fid_lenet"]
    assert values["held_out/kid_lenet"] < 0.2 * values["noise/kid_lenet"]
    assert values["held_out/precision_lenet"] > 0.5 > values["noise/precision_lenet"]
    assert values["samples/fid_lenet"] > 2.0 * values["held_out/fid_lenet"]
    features = entry["features"]
    assert features["accuracy"] > 0.9
    assert f"of our LeNet {features['sha256'][:12]}" in said
    assert f"96 samples by LeNet {features['sha256'][:12]}" in said  # of `lehr show`


def test_spread_over_ray_it_is_the_same(evaluated: tuple[Store, str]) -> None:
    here, there = json.loads(evaluated[1].rpartition("answer: ")[2])
    assert here["counts"] == there["counts"] == {"samples": 90, "data": 200}
    assert here["values"].keys() == there["values"].keys()
    for name, value in here["values"].items():
        close: Any = pytest.approx(
            value, rel=1e-3, abs=0.03 if "recall" in name or "precision" in name else 1e-4
        )
        assert there["values"][name] == close, name
