"""`--set`: what is put in comes out, and nothing else changes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lehr import spec as specs
from lehr.errors import SpecError
from lehr.spec import overrides
from lehr.spec import tree as trees

JOB = (Path(__file__).resolve().parents[2] / "jobs" / "ebm-digits.yaml").read_text()

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
names = st.sampled_from(["train", "seed", "a", "deep", "x_1", "model"])
paths = st.lists(names, min_size=1, max_size=4)


def leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, Any]]:
    """Dotted path and value of each leaf of nested mappings; a duration is one leaf."""
    if isinstance(value, dict) and value and not {"steps", "epochs", "examples", "minutes"} & set(value):
        return [leaf for key, inner in value.items() for leaf in leaves(inner, (*path, key))]
    return [(".".join(path), value)]


@given(value=values)
@example("1e-4")
@example("on")
@example("1e999")
@example({"": "2026-01-01", "~": "0x10", "a:b": "# no comment"})
def test_what_is_written_is_read_back(value: Any) -> None:
    found = trees.read(trees.write(value), "here")
    assert found.value == value
    assert repr(found.value) == repr(value)  # 1 is not 1.0, nor True
    assert not found.problems


@given(path=paths, value=values, start=st.dictionaries(names, st.dictionaries(names, plain), max_size=3))
def test_round_trip(path: list[str], value: Any, start: dict[str, Any]) -> None:
    tree = trees.Tree("here", copy.deepcopy(start))
    overrides.apply(tree, [f"{'.'.join(path)}={trees.write(value)}"])
    blocked = start.get(path[0]) is not None and len(path) > 2 and start[path[0]].get(path[1]) is not None
    if blocked:
        assert len(tree.problems) == 1
        assert tree.value == start
        return
    assert not tree.problems
    here, old = tree.value, start
    for part in path[:-1]:
        others = {key: inner for key, inner in here.items() if key != part}
        assert others == {key: inner for key, inner in (old or {}).items() if key != part}
        here, old = here[part], (old or {}).get(part)
    assert here[path[-1]] == value
    assert tree.origin(tuple(path)) == f"--set {'.'.join(path)}"


def test_every_key_can_be_set_to_what_it_is() -> None:
    spec = specs.parse(JOB)
    for path, value in leaves(spec.document()):
        assert specs.parse(JOB, sets=[f"{path}={trees.write(value)}"]) == spec, path


def test_all_keys_at_once_make_the_whole_job() -> None:
    spec = specs.parse(JOB)
    sets = [f"{path}={trees.write(value)}" for path, value in leaves(spec.document())]
    assert specs.parse("version: 1\n", sets=sets) == spec


def test_a_mapping_replaces_the_whole_node() -> None:
    spec = specs.parse(JOB, sets=["train.duration={steps: 40}"])
    assert spec.document()["train"]["duration"] == {"steps": 40}


def test_a_kind_alone_leaves_the_other_keys() -> None:
    spec = specs.parse(JOB, sets=["strategy.kind=single"])
    assert (spec.strategy.kind, spec.strategy.workers, spec.strategy.cpus_per_worker) == ("single", 2, 1)


def test_the_last_one_wins() -> None:
    assert specs.parse(JOB, sets=["train.seed=1", "train.seed=2"]).train.seed == 2


def test_inside_a_list() -> None:
    assert specs.parse(JOB, sets=["model.filters.1=8"]).model.filters == (16, 8, 64, 64)


def test_what_was_absent_is_made() -> None:
    spec = specs.parse(JOB.replace("tracking:", "# tracking:"), sets=["tracking.wandb.project=x"])
    assert spec.tracking.wandb is not None
    assert spec.tracking.wandb.project == "x"


def test_scientific_notation_is_a_number() -> None:
    for text in ("1e-4", "1.0e-4", "0.0001", "1E-4"):
        assert (
            specs.parse(JOB, sets=[f"train.optimizer.learning_rate={text}"]).train.optimizer.learning_rate
            == 1e-4
        )


def test_problems_name_the_override_and_not_a_line() -> None:
    with pytest.raises(SpecError, match=r"^--set train\.duration: train\.duration\.step: unknown key"):
        specs.parse(JOB, source="job.yaml", sets=["train.duration={step: 4}"])


def test_a_replaced_mapping_forgets_its_lines() -> None:
    with pytest.raises(SpecError) as refused:
        specs.parse(JOB, source="job.yaml", sets=["sampler={kind: langevin, steps: 0}"])
    assert str(refused.value).startswith("--set sampler: sampler.steps: 0")
