"""The program of a sweep: its numbers, the plan of each trial, its cost, and its way through storage."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from typing import Any

import pytest

import jobs
from lehr import spec as specs
from lehr.errors import SpecError, UserError
from lehr.spec.search import Search
from lehr.sweep import pricing, program, rungs
from lehr.sweep import space as spaces
from lehr.sweep.program import Program
from lehr.sweep.records import Start

SPACE = """
  space:
    train.optimizer.learning_rate: {log: [1.0e-5, 1.0e-3]}
    sampler.steps: {int: [5, 20], step: 5}
"""
SEARCH = f"""
search:{SPACE}
  scheduler: asha
  metric: validation/contrastive_divergence
  trials: 8
validation: {{every: {{steps: 1}}}}
"""
EBM = jobs.EBM + SEARCH
WANDB = "tracking.wandb={project: lehr, tags: [digits]}"


def made(*sets: str, text: str = EBM, run_id: str | None = None) -> Program:
    return program.make(specs.parse(text, sets=sets), run_id=run_id)


def start(found: Program, **parameters: Any) -> Start:
    given = {"train.optimizer.learning_rate": 3e-4, "sampler.steps": 15} | parameters
    return Start(7, 1, f"{found.run_id}-0007", given)


def test_a_trial_is_the_job_with_overrides_and_nothing_else() -> None:
    sweep = made()
    trial = sweep.plan(start(sweep))
    by_hand = jobs.plan(
        jobs.EBM, "train.optimizer.learning_rate=3.0e-4", "sampler.steps=15", "validation.every={steps: 1}",
        run_id="ebm-0007",
    )  # fmt: skip
    assert trial == by_hand
    assert trial.spec_hash == by_hand.spec_hash
    assert trial.spec.search is None


def test_a_trial_in_wandb_is_grouped_by_the_sweep_and_named_by_what_varies() -> None:
    sweep = made(WANDB, run_id="night")
    wandb = sweep.plan(start(sweep)).spec.tracking.wandb
    assert wandb is not None
    assert (wandb.group, wandb.name) == ("night", "learning_rate=0.0003 steps=15")
    assert (wandb.project, wandb.tags) == ("lehr", ("digits",))
    assert sweep.plan(start(sweep)).spec_hash == made().plan(start(sweep)).spec_hash


def test_a_name_in_wandb_is_no_longer_than_it_takes() -> None:
    filters = [8] * 60
    sweep = made(WANDB, f"search.space.model.filters={{choice: [{filters}, [8]]}}")
    for before, name in (({"sampler.steps": 5}, "steps=5"), ({}, f"filters=[{'8,' * 60}"[:128])):
        wandb = sweep.plan(Start(1, 1, "a", before | {"model.filters": filters})).spec.tracking.wandb
        assert wandb is not None
        assert wandb.name == name


def test_names_are_as_short_as_they_can_be() -> None:
    found = program.shortened(dict.fromkeys(["a.b.steps", "a.c.steps", "steps", "x.rate"]))
    assert found == {"a.b.steps": "b.steps", "a.c.steps": "c.steps", "x.rate": "rate"} | {"steps": "steps"}


@pytest.mark.parametrize(
    ("value", "text"),
    [(1 / 3, "0.333333"), (3e-5, "3e-05"), (60, "60"), ([16, 32], "[16,32]"), (None, "null"), (True, "true"),
     ({"kind": "sgd", "learning_rate": 0.5}, "{kind:sgd,learning_rate:0.5}"), ("relu", "relu")],
)  # fmt: skip
def test_values_in_words(value: Any, text: str) -> None:
    assert program.words(value) == text


def test_the_first_path_that_is_the_end_of_another_has_a_name() -> None:
    text = EBM.replace("    sampler.steps:", "    train.duration.steps: {int: [10, 20]}\n    sampler.steps:")
    sweep = made(text=text)
    assert set(program.shortened(sweep.search.space).values()) == {
        "learning_rate",
        "duration.steps",
        "sampler.steps",
    }
    assert sweep.plan(start(sweep, **{"train.duration.steps": 15})).steps == 15


def test_it_goes_through_storage() -> None:
    sweep = made("search.grace={steps: 4}", WANDB, run_id="night")
    document = json.loads(json.dumps(sweep.document()))
    assert document["run_id"] == "night"
    again = program.restore(document)
    assert again == sweep
    assert again.document() == sweep.document()
    assert again.grace == 0.4


def test_another_format_is_refused() -> None:
    with pytest.raises(UserError, match=r"sweep\.json: format 2"):
        program.restore(made().document() | {"format": 2})


def test_the_job_must_be_a_sweep() -> None:
    with pytest.raises(UserError, match="search: missing"):
        made(text=jobs.EBM)


def test_a_sweep_is_no_run_and_a_run_of_it_has_another_name() -> None:
    """By the same name it would lie in the sweep's folder."""
    with pytest.raises(SpecError, match=r"remove search: \(--set search=null --run NAME\)"):
        jobs.plan(EBM)


@pytest.mark.parametrize("run_id", ["", "a/b", ".x", "x" * 91])
def test_its_trials_must_find_names(run_id: str) -> None:
    with pytest.raises(UserError, match="cannot name a sweep's folder"):
        program.make(specs.parse(EBM).model_copy(update={"name": run_id}))
    assert len(made(run_id="x" * 90).plan(start(made(run_id="x" * 90))).run_id) <= 100


def test_an_odd_grace_is_a_share_of_a_trial() -> None:
    assert made().grace == pytest.approx(1 / 9)
    assert made("search.grace={epochs: 1}").grace == pytest.approx(5 / 10)
    assert made("search.grace={examples: 65}").grace == pytest.approx(2 / 10)


def test_a_grid_has_as_many_trials_as_combinations() -> None:
    grid = ("search.algorithm=grid", "search.trials=null", "search.space={sampler.steps: {int: [5, 20]}}")
    assert made(*grid).trials == 16
    assert made(*grid, "search.trials=3").trials == 3


def test_extended() -> None:
    assert made().extended(48) == dataclasses.replace(made(), trials=48)
    grid = made("search.algorithm=grid", "search.trials=2", "search.space={sampler.steps: {int: [5, 8]}}")
    assert grid.extended(4).trials == 4
    with pytest.raises(SpecError, match=r"search\.trials: 5 trials are more than the grid's 4") as refused:
        grid.extended(5)
    assert "widen search.space" in str(refused.value)
    assert "leave trials out" not in str(refused.value), "it fits no extension"


def test_it_is_not_extended_without_end() -> None:
    assert made().extended(100_000).trials == 100_000
    with pytest.raises(SpecError, match="100,001 trials are more than a sweep can have") as refused:
        made().extended(100_001)
    assert "accepted: at most 100,000" in str(refused.value)
    huge = made("search.algorithm=grid", "search.trials=2", "search.space={train.seed: {int: [0, 200000]}}")
    with pytest.raises(SpecError, match="at most 100,000"):
        huge.extended(100_001)


CONDITIONAL = """search.space={train.optimizer.kind: {choice: [adam, sgd]},
  train.optimizer.momentum: {uniform: [0.0, 0.9], when: {train.optimizer.kind: sgd}}}"""


def test_another_kind_brings_its_own_keys() -> None:
    sweep = made("train.optimizer.beta_1=0.8", CONDITIONAL)
    sgd = sweep.plan(Start(1, 1, "a", {"train.optimizer.kind": "sgd", "train.optimizer.momentum": 0.5}))
    adam = sweep.plan(Start(2, 1, "b", {"train.optimizer.kind": "adam"}))
    assert sgd.spec.train.optimizer.model_dump() == {
        "kind": "sgd", "learning_rate": 1e-4, "momentum": 0.5, "nesterov": False,
    }  # fmt: skip
    assert adam.spec.train.optimizer == jobs.plan(jobs.EBM, "train.optimizer.beta_1=0.8").spec.train.optimizer


@pytest.mark.parametrize(
    ("kind", "left"), [("adam", {"sampler.steps"}), ("sgd", {"sampler.steps", "train.optimizer.momentum"})]
)
def test_what_the_job_decides_is_decided(kind: str, left: set[str]) -> None:
    space = """search.space={sampler.steps: {int: [5, 9]},
      train.optimizer.momentum: {choice: [0.5, 0.9], when: {train.optimizer.kind: sgd}},
      train.optimizer.nesterov: {choice: [false, true], when: {train.optimizer.momentum: 0.9}}}"""
    sweep = made(space, f"train.optimizer={{kind: {kind}, learning_rate: 0.1}}")
    assert set(sweep.search.space) == (left | {"train.optimizer.nesterov"} if kind == "sgd" else left)
    assert sweep.spec.search is not None
    assert len(sweep.spec.search.space) == 3, "the job keeps what it says"
    assert program.restore(sweep.document()) == sweep


def test_what_hangs_on_what_is_gone_is_gone_too() -> None:
    space = """search.space={train.optimizer.learning_rate: {choice: [0.1, 0.2]},
      train.optimizer.beta_1: {choice: [0.5, 0.6], when: {train.optimizer.kind: sgd}},
      sampler.steps: {int: [5, 20], when: {train.optimizer.beta_1: 0.5}},
      sampler.noise: {uniform: [0.01, 0.02], when: {sampler.steps: 7}}}"""
    assert list(made(space).search.space) == ["train.optimizer.learning_rate"]


def test_corners_are_planned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = made()
    restored = program.restore(sweep.document())
    again = program.cost(restored), program.cost(restored.extended(9))
    monkeypatch.setattr(program.trying, "corners", None)
    assert (program.cost(sweep), program.cost(sweep.extended(9))) == again


def test_pairs_of_many_choices_are_planned() -> None:
    """Two choices that do not fit each other everywhere, among more corners than are tried."""
    space = """search.space={train.global_batch: {choice: [64, 96, 128, 192, 256]},
      sampler.buffer.size: {choice: [1536, 1024]}, sampler.noise: {log: [0.001, 0.01]},
      sampler.step_size: {log: [3, 30]}, train.optimizer.learning_rate: {log: [0.0001, 0.01]},
      objective.regulariser: {log: [0.01, 1]}, train.optimizer.beta_1: {uniform: [0.5, 0.9]},
      sampler.buffer.fresh: {uniform: [0.0, 0.2]}, objective.data_noise: {log: [0.001, 0.01]}}"""
    with pytest.raises(SpecError, match="1024 chains cannot be divided evenly over the 96 places"):
        made(space)


def test_every_corner_makes_a_plan() -> None:
    sweep = made()
    for parameters in spaces.corners(sweep.search.space):
        assert sweep.plan(Start(1, 1, "x-0001", parameters)).steps == 10


# --- cost -----------------------------------------------------------------------------------------

LONG = ("train.duration={steps: 81}", "search.grace={steps: 3}", "search.trials=10")


def test_without_a_scheduler_all_is_trained() -> None:
    cost = program.cost(made(*LONG, "search.scheduler=none", "checkpoint={keep_last: 2}"))
    assert (cost.steps_most, cost.steps_expected, cost.marks) == (810, 810, ())
    one = made().base().checkpoint_bytes
    assert one is not None
    assert cost.bytes_most == 10 * 2 * one
    assert cost.hours(36.0, slots=2) == (4.05, 4.05)
    assert cost.hours(36.0, slots=100) == (0.81, 0.81), "no more slots than trials"


def test_successive_halving_by_hand() -> None:
    """3 steps for all, then to 9 for a third, to 27 for a ninth, to 81 for a 27th (milestones 3, 9, 27)."""
    cost = program.cost(made(*LONG))
    assert cost.steps_most == 810
    assert cost.steps_expected == round(10 * (3 + 6 / 3 + 18 / 9 + 54 / 27))
    assert cost.marks == pytest.approx((1 / 27, 1 / 9, 1 / 3))


def test_a_trial_ends_where_it_reports() -> None:
    """Reports at 10, 20, ...: the milestones 3 and 9 are both seen at 10, 27 at 30."""
    cost = program.cost(made(*LONG, "validation.every={steps: 10}"))
    assert cost.steps_expected == round(10 * (10 + 20 / 3 + 51 / 9))


def test_hyperband_lies_between() -> None:
    asha, band = (program.cost(made(*LONG, f"search.scheduler={name}")) for name in ("asha", "hyperband"))
    assert asha.steps_expected < band.steps_expected < band.steps_most
    shares = [pricing._halved((1 / 27, 1 / 9, 1 / 3)[place:], 3) for place in rungs.brackets(4, 3)]
    assert band.steps_expected == round(810 * sum(shares) / len(shares))


def test_expected_steps_are_what_halving_takes() -> None:
    """Against H3's rungs themselves: 600 trials of random values, one after another."""
    sweep = made(*LONG, "search.trials=600")
    judge, draws, steps = rungs.Rungs(sweep.search, sweep.grace), random.Random(0), 0
    for number in range(1, 601):
        begin = Start(number, 1, str(number), {})
        for at in range(1, 82):
            report = program.records.Report(at, 81, draws.random())
            verdict, _ = judge.judge(begin, report)
            judge.keep(begin, report)
            if verdict == "stop" or at == 81:
                steps += at
                break
    assert steps == pytest.approx(program.cost(sweep).steps_expected, rel=0.15)


def test_copies_keep_checkpoints_of_their_own() -> None:
    sets = ("search.scheduler=pbt", "train.duration={steps: 10}", "search.grace={steps: 5}")
    cost = program.cost(made(*sets, "checkpoint={every: {steps: 5}, keep_last: 1}"))
    one = made().base().checkpoint_bytes
    assert one is not None
    assert (cost.marks, cost.bytes_most) == ((0.5,), 8 * 2 * 2 * one), "each keeps its state at every look"
    assert cost.steps_expected == cost.steps_most == 80


def test_a_model_of_ones_own_has_an_unknown_size() -> None:
    text = EBM.replace("model: {kind: ebm}", "model: {kind: 'a.b:C'}\nobjective: {kind: contrastive}")
    assert program.cost(made(text=text)).bytes_most is None


def test_trials_of_unequal_length() -> None:
    space = "search.space={train.duration.steps: {choice: [10, 30]}}"
    cost = program.cost(made(space, "search.scheduler=none"))
    assert cost.steps_each == (10, 30)
    assert (cost.steps_most, cost.steps_expected) == (240, 160)


def test_the_share_of_a_trial_is_a_share() -> None:
    for grace in (0.01, 1 / 9, 0.5, 0.99):
        for name in ("none", "asha", "hyperband", "pbt"):
            search = made().search.model_copy(update={"scheduler": name})
            assert isinstance(search, Search)
            share = pricing.share(search, grace, made().base())
            assert 0 < share <= 1
            assert math.isfinite(share)
