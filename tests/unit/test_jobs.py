"""The job files: each is valid, plans, fits a screen and tells its source; what is generated is current."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lehr import plan as plans
from lehr import spec as specs
from lehr.spec import reference, schema
from lehr.sweep import program

JOBS = Path(__file__).resolve().parents[2] / "jobs"
FILES = sorted(JOBS.glob("*.yaml"))
SWEEPS = [path for path in FILES if path.name.startswith("sweep-")]
RUNS = [path for path in FILES if path not in SWEEPS]
SCREEN = 50  # lines


def test_there_are_jobs() -> None:
    assert {"ebm-digits.yaml", "ebm-mnist.yaml", "lenet-fashion.yaml"} <= {path.name for path in FILES}


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.name)
def test_a_sweep_is_valid_and_costs_something(path: Path) -> None:
    sweep = program.make(specs.load(str(path)))
    assert sweep.run_id == path.stem
    assert program.restore(json.loads(json.dumps(sweep.document()))) == sweep
    cost = program.cost(sweep)
    assert 0 < cost.steps_expected <= cost.steps_most
    assert cost.bytes_most


def test_the_sweeps_are_there() -> None:
    wanted = ("sweep-ebm-langevin", "sweep-ebm-pbt", "sweep-ebm-smoke", "sweep-lenet-learning-rate")
    assert {path.stem for path in SWEEPS} >= set(wanted)


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.name)
def test_it_is_valid_and_plans(path: Path) -> None:
    plan = plans.make(specs.load(str(path)))
    assert plan.run_id == path.stem
    assert plan.parameters
    assert plan.steps > 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_its_header_says_where_it_comes_from(path: Path) -> None:
    text = path.read_text()
    said = reference.heading(text)
    assert set(said) == {"what", "source", "expected", "time", "command"}
    assert all(said.values())
    command = "sweep" if path in SWEEPS else "run"
    assert said["command"] == f"lehr {command} jobs/{path.name}"
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_fits_a_screen(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= SCREEN
    assert max(map(len, lines)) <= 120


def test_the_book_to_the_number() -> None:
    """Foster, Generative Deep Learning, chapter 7."""
    spec = specs.load(str(JOBS / "ebm-mnist.yaml"))
    document = spec.document()
    assert document["model"] == {"kind": "ebm", "filters": [16, 32, 64, 64], "hidden": 64}
    assert (spec.data.kind, spec.data.shape, spec.data.range) == ("mnist", (32, 32, 1), (-1.0, 1.0))
    assert (spec.train.global_batch, document["train"]["duration"]) == (128, {"epochs": 60})
    assert (spec.train.optimizer.kind, spec.train.optimizer.learning_rate) == ("adam", 1e-4)
    assert document["sampler"] == {
        "kind": "langevin", "steps": 60, "step_size": 10.0, "noise": 0.005, "noise_end": None,
        "acceptance": False, "gradient_clip": 0.03, "buffer": {"size": 8192, "fresh": 0.05},
    }  # fmt: skip
    assert document["objective"] == {"kind": "contrastive", "regulariser": 0.1, "data_noise": 0.005}
    assert spec.samples is not None
    assert (spec.samples.count, spec.samples.steps) == (10, 1000)


def test_lenet_as_in_the_book() -> None:
    """Zhang et al., Dive into Deep Learning, 7.6: SGD 0.1, batch 128, 10 epochs, 28x28 in [0, 1]."""
    spec = specs.load(str(JOBS / "lenet-fashion.yaml"))
    assert (spec.train.optimizer.kind, spec.train.optimizer.learning_rate) == ("sgd", 0.1)
    assert (spec.train.global_batch, spec.document()["train"]["duration"]) == (128, {"epochs": 10})
    assert (spec.data.shape, spec.data.range) == ((28, 28, 1), (0.0, 1.0))
    assert (spec.model.activation, spec.model.pooling) == ("sigmoid", "average")


def test_the_schema_that_editors_read_is_current() -> None:
    assert json.loads((JOBS / "schema.json").read_text()) == schema.document(), (
        "lehr schema > jobs/schema.json"
    )


def test_the_page_is_current() -> None:
    texts = {path.name: path.read_text() for path in FILES}
    written = (JOBS / "README.md").read_text()
    assert written == reference.page(texts), "python -m lehr.spec.reference jobs > jobs/README.md"
