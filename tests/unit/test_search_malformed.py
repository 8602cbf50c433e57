"""Bad searches: each gives one clear message that says where and what to do, exit code 2, before Ray starts."""

# ruff: noqa: E501  a case is a line, so that the table can be read down

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from commands import lehr
from lehr import spec as specs
from lehr.errors import SpecError
from lehr.spec import paths
from lehr.sweep import program
from lehr.sweep import space as spaces
from lehr.sweep.records import Start

GOOD = """\
version: 1
name: fine
model: {kind: ebm, filters: [16, 32], hidden: 64}
data: {kind: digits, image_size: 16, range: [-1, 1]}
train: {global_batch: 128, duration: {steps: 90}, optimizer: {kind: adam, learning_rate: 1.0e-4}}
sampler: {kind: langevin, steps: 60, buffer: {size: 8192}}
strategy: {kind: horovod, workers: 2}
validation: {every: {steps: 5}}
checkpoint: {every: {steps: 5}}
tracking: {wandb: {project: lehr}}
search:
  space:
    train.optimizer.learning_rate: {log: [1.0e-5, 1.0e-3]}
    sampler.steps: {int: [20, 120]}
  algorithm: random
  scheduler: asha
  metric: validation/contrastive_divergence
  trials: 8
"""
AWS_ID = "AKIA" + "IOSFODNN7EXAMPLE"
STEPS = "sampler.steps: {int: [20, 120]}"
RATE = "train.optimizer.learning_rate: {log: [1.0e-5, 1.0e-3]}"


@dataclass(frozen=True)
class Case:
    """The good job with `old` replaced by `new`, and what must be said of it, first of all where."""

    name: str
    edits: tuple[tuple[str, str], ...]
    said: tuple[str, ...]
    letters: int = 1
    secret: str = ""


def steps(name: str, range_: str, *said: str) -> Case:
    """Another range for sampler.steps, on line 14."""
    return Case(
        name,
        ((STEPS, f"sampler.steps: {range_}"),),
        (f"job.yaml:14: search.space.sampler.steps{said[0]}", *said[1:]),
    )


def extra(name: str, range_: str, *said: str) -> Case:
    """One more range, on line 15."""
    path = range_.partition(": ")[0]
    return Case(
        name,
        ((STEPS, f"{STEPS}\n    {range_}"),),
        (f"job.yaml:15: search.space.{path}: {said[0]}", *said[1:]),
    )


def edit(name: str, old: str, new: str, *said: str) -> Case:
    return Case(name, ((old, new),), said)


RANGES = [
    steps("ends swapped", "{int: [120, 20]}", ".int: the lower end is not below the upper end", "do: write [20, 120]"),
    steps("ends alike", "{int: [20, 20]}", ".int: the lower end is not below"),
    steps("one end", "{int: [20]}", ".int.1: missing", "a whole number"),
    steps("a list alone", "[20, 120]", ": [20, 120] is not accepted", "do: write {int: [20, 120]}"),
    steps("a number alone", "20", ": 20 is a number"[:5], "one of log: [a, b]"),
    steps("no kind", "{}", ": exactly one of log, uniform, int, choice must be given; none came"),
    steps("two kinds", "{int: [1, 2], log: [1, 2]}", ": exactly one of", "log and int came"),
    steps("kind of another library", "{loguniform: [20, 120]}", ".loguniform: unknown key", "here it is called log"),
    steps("unknown kind", "{itn: [20, 120]}", ".itn: unknown key", "did you mean int?"),
    steps("fraction for a whole end", "{int: [20, 120.5]}", ".int.1: 120.5 is a number", "a whole number"),
    steps("log from 0", "{log: [0, 120]}", ".log: 0 has no logarithm"),
    steps("log from below 0", "{log: [-1, 120]}", ".log: -1 has no logarithm"),
    steps("fractions for a whole key", "{uniform: [20, 120]}", ": uniform gives fractions, and the key takes whole numbers", "write int: [20, 120]"),
    steps("empty choice", "{choice: []}", ".choice: an empty list"),
    steps("choice that is no list", "{choice: 20}", ".choice: 20 is a whole number", "a list"),
    steps("the same choice twice", "{choice: [20, 30, 20]}", ".choice: 20 is there a second time"),
    steps("the same choice, written otherwise", "{choice: [20, 20.0]}", ".choice: 20 is there a second time"),
    steps("text among numbers", "{choice: [20, sixty]}", ": 'sixty' is text", "a whole number"),
    steps("quoted number", "{choice: [20, '60']}", ": '60' is text", "remove the quotes"),
    steps("below the key's bounds", "{int: [0, 20]}", ": 0 is not accepted", "at least 1"),
    steps("step of 0", "{int: [1, 20], step: 0}", ".step: 0 is not accepted", "above 0"),
    steps("step of a choice", "{choice: [1, 20], step: 2}", ": step: a choice has none"),
    steps("step beyond the range", "{int: [1, 20], step: 20}", ": step: 20 leads beyond the upper end at once"),
    steps("fraction of a whole number", "{int: [1, 20], step: 0.5}", ": step: 0.5 is not whole"),
    steps("more than can be told apart", "{int: [1, 1000000000000000000000000000000]}", ": more values than a float can tell apart"),
    extra("steps without number", "sampler.noise: {uniform: [0, 1], step: 1.0e-40}", "more values than a float can tell apart"),
    steps("nothing", "", ": nothing (null) came"),
    extra("beyond the key's bounds", "train.optimizer.beta_1: {uniform: [0.5, 1.5]}", "1.5 is not accepted", "below 1"),
    extra("an inner mistake of a choice", "train.duration: {choice: [{steps: 5}, {stesp: 9}]}", "stesp: unknown key", "did you mean steps?"),
]  # fmt: skip
PATHS = [
    extra("unknown path", "sampler.step_sise: {log: [1, 30]}", "unknown key", "kind, steps, step_size", "did you mean sampler.step_size?"),
    extra("path without its beginning", "learning_rate: {log: [1, 30]}", "unknown key", "did you mean train.optimizer.learning_rate?"),
    extra("unknown section", "samplers.noise: {log: [1, 30]}", "unknown key", "did you mean sampler.noise?"),
    extra("path beyond a value", "train.seed.x: {int: [1, 30]}", "unknown key", "did you mean train.seed?"),
    extra("path of a mapping", "sampler.buffer: {int: [1, 30]}", "a mapping, which has no int of values", "sampler.buffer.size"),
    extra("values for a mapping", "sampler.buffer: {choice: [1, 30]}", "1 came"[:2]),
    extra("key of another kind", "train.optimizer.momentum: {uniform: [0, 0.9]}", "unknown key", "of kind sgd"),
    extra("search in the search", "search.trials: {int: [1, 30]}", "search cannot vary: a trial has no search of its own"),
    extra("version", "version: {int: [1, 2]}", "version cannot vary"),
    extra("name", "name: {choice: [a, b]}", "name cannot vary"),
    extra("storage", "storage: {choice: [a, b]}", "storage cannot vary"),
    extra("tracking", "tracking.every.steps: {int: [1, 2]}", "tracking cannot vary"),
    extra("recovery", "recovery.max_failures: {int: [1, 2]}", "recovery cannot vary"),
    extra("strategy", "strategy.workers: {int: [1, 2]}", "strategy cannot vary"),
    extra("checkpoint", "checkpoint.keep_last: {int: [1, 2]}", "checkpoint cannot vary"),
    extra("where the data is", "data.root: {choice: [a, b]}", "data.root cannot vary"),
    extra("what is looked at", "data.validation_examples: {int: [10, 20]}", "data.validation_examples cannot vary: trials are compared on the same examples"),
    edit("a key and a key in it", STEPS, "sampler: {choice: [{kind: langevin}]}\n    sampler.steps: {int: [20, 120]}",
         "job.yaml:14: search.space.sampler: it holds sampler.steps, which varies by itself"),
    edit("the same path twice", STEPS, f"{STEPS}\n    {STEPS}", "job.yaml:15: search.space.sampler.steps: the key is written a second time"),
    edit("an empty space", f"  space:\n    {RATE}\n    {STEPS}\n", "  space: {}\n", "job.yaml:12: search.space: an empty mapping"),
    edit("no space", f"  space:\n    {RATE}\n    {STEPS}\n", "", "search.space: missing", "add space"),
]  # fmt: skip
CONDITIONS = [
    steps("when on itself", "{int: [1, 20], when: {sampler.steps: 3}}", ": when: it cannot hang on itself"),
    steps("when on no key", "{int: [1, 20], when: {sampler.niose: 3}}", ": when: sampler.niose is no key", "did you mean sampler.noise?"),
    steps("when never", "{int: [1, 20], when: {train.optimizer.learning_rate: 5}}", ": when: train.optimizer.learning_rate never is 5"),
    steps("when a fixed key never is", "{int: [1, 20], when: {train.optimizer.kind: sgdd}}", ": when: train.optimizer.kind: kind: 'sgdd' is not known"),
    steps("empty when", "{int: [1, 20], when: {}}", ".when: an empty mapping"),
    steps("none of an empty list", "{int: [1, 20], when: {sampler.kind: []}}", ".when: sampler.kind: an empty list"),
    Case("when inside what varies as a whole", ((STEPS, "sampler.steps: {int: [5, 9], when: {train.optimizer.kind: sgd}}"),
         (RATE, "train.optimizer: {choice: [{kind: adam, learning_rate: 0.1}, {kind: sgd, learning_rate: 0.1}]}")),
         ("job.yaml:14: search.space.sampler.steps: when: train.optimizer.kind is inside train.optimizer, which varies as a whole",
          "do: hang it on train.optimizer")),
    steps("when on what holds a key that varies", "{int: [5, 9], when: {train.optimizer: {kind: adam, learning_rate: 1.0e-4}}}",
          ": when: train.optimizer holds train.optimizer.learning_rate, which varies by itself", "do: hang it on train.optimizer.learning_rate"),
    edit("circle", STEPS, "sampler.steps: {int: [1, 20], when: {sampler.noise: 0.1}}\n    sampler.noise: {choice: [0.1], when: {sampler.steps: 3}}",
         "job.yaml:14: search.space.sampler.steps: when: these hang on each other: sampler.steps -> sampler.noise -> sampler.steps"),
    Case("nothing left", ((f"    {RATE}\n", ""), (STEPS, "sampler.steps: {int: [1, 20], when: {train.optimizer.kind: sgd}}")),
         ("job.yaml:12: search.space: nothing varies",)),
]  # fmt: skip
CORNERS = [
    extra("indivisible batch", "train.global_batch: {choice: [128, 127]}", "127 examples cannot be divided evenly over 2"),
    extra("indivisible inside", "train.global_batch: {int: [128, 256], step: 32}", "with train.global_batch: 160, sampler.buffer.size: 8192 chains"),
    Case("two together", ((STEPS, f"{STEPS}\n    train.global_batch: {{choice: [128, 512]}}\n    sampler.buffer.size: {{choice: [256, 512]}}"),),
         ("job.yaml:16: search.space.sampler.buffer.size: with sampler.buffer.size: 256, train.global_batch: 512, 256 chains",)),
    edit("whatever varies", "size: 8192", "size: 100", "job.yaml:6: sampler.buffer.size: 100 chains cannot be divided"),
    extra("a model that the objective cannot train", "model.kind: {choice: [ebm, lenet]}", "with model.kind: \"lenet\", objective.kind: contrastive cannot train model lenet"),
    extra("examples in a choice of data", "data: {choice: [{kind: digits, image_size: 16, range: [-1, 1], validation_examples: 128}, {kind: digits, image_size: 16, range: [-1, 1], validation_examples: 64}]}",
          "data.validation_examples differs among its choices, and it cannot vary: trials are compared on the same examples", "do: give data.validation_examples the same value"),
    edit("compilation in a choice of training", RATE, "train: {choice: [{global_batch: 128, duration: {steps: 90}, optimizer: {kind: adam, learning_rate: 1.0e-3}}, {global_batch: 128, compile: off, duration: {steps: 90}, optimizer: {kind: adam, learning_rate: 1.0e-3}}]}",
         "job.yaml:13: search.space.train: train.compile differs among its choices, and it cannot vary: it does not change"),
    extra("too small for the model", "data.image_size: {int: [0, 16]}", "0 is not accepted"),
]  # fmt: skip
WHOLE = [
    edit("no metric", "  metric: validation/contrastive_divergence\n", "", "search.metric: missing"),
    edit("unknown metric", "validation/contrastive_divergence", "validation/contrastive_divergense", "job.yaml:17: search.metric: objective contrastive has no", "did you mean validation/contrastive_divergence?"),
    edit("metric of training only", "validation/contrastive_divergence", "validation/loss", "search.metric: objective contrastive has no validation/loss"),
    edit("metric without a split", "validation/contrastive_divergence", "loss", "search.metric", "train/NAME or validation/NAME"),
    edit("split that is not there", "data: {kind: digits, image_size: 16, range: [-1, 1]}",
         "data: {kind: 'a.b:C', shape: [16, 16, 1], range: [-1, 1], train_examples: 256, validation_examples: 0}", "search.metric", "there are no held-out examples"),
    edit("unknown mode", "scheduler: asha", "scheduler: asha\n  mode: minimum", "search.mode: 'minimum' is not accepted", "did you mean min?"),
    edit("unknown algorithm", "algorithm: random", "algorithm: bayes", "search.algorithm: 'bayes' is not accepted", "grid | random | tpe | bohb"),
    edit("unknown scheduler", "scheduler: asha", "scheduler: median", "search.scheduler: 'median' is not accepted"),
    edit("unknown key", "  trials: 8", "  trails: 8", "job.yaml:18: search.trails: unknown key", "did you mean trials?"),
    edit("endless", "  trials: 8\n", "", "search.trials: missing: random proposes for ever"),
    edit("no trials", "trials: 8", "trials: 0", "search.trials: 0 is not accepted"),
    edit("concurrent 0", "trials: 8", "trials: 8\n  concurrent: 0", "job.yaml:19: search.concurrent: 0 is not accepted"),
    edit("budget of 0", "trials: 8", "trials: 8\n  budget: {hours: 0}", "search.budget.hours: 0 is not accepted", "above 0"),
    edit("budget below 0", "trials: 8", "trials: 8\n  budget: {hours: -1}", "search.budget.hours: -1 is not accepted"),
    edit("grid of a continuous range", "algorithm: random", "algorithm: grid", "search.space.train.optimizer.learning_rate: a grid cannot try every value of a continuous log", "a step"),
    Case("more trials than the grid", ((f"    {RATE}\n", ""), ("algorithm: random", "algorithm: grid"), ("trials: 8", "trials: 102")),
         ("search.trials: 102 trials are more than the grid's 101 combinations",)),
    Case("a grid without end", ((f"    {RATE}\n", "    train.seed: {int: [0, 100000]}\n"), ("algorithm: random", "algorithm: grid"), ("  trials: 8\n", ""),
         (STEPS, "sampler.steps: {int: [20, 2000], when: {train.seed: [1, 2]}}\n    train.optimizer.learning_rate: {uniform: [0.001, 0.1], step: 0.00001}")),
         ("search.space: the grid has more than 100,000 combinations", "at most 100,000", "add trials, or larger steps")),
    edit("bohb without halving", "algorithm: random\n  scheduler: asha", "algorithm: bohb\n  scheduler: none", "search.algorithm: bohb learns from trials that were ended early"),
    edit("one report", "validation: {every: {steps: 5}}", "validation: {every: {steps: 90}}", "search.scheduler: asha ends trials by what they report on the way", "validation.every={steps: 10}"),
    edit("reports by the clock", "validation: {every: {steps: 5}}", "validation: {every: {minutes: 5}}", "search.scheduler: asha compares trials at the same steps"),
    edit("grace of a whole trial", "trials: 8", "trials: 8\n  grace: {steps: 90}", "job.yaml:19: search.grace: 90 steps are not less than the 90"),
    edit("grace of a trial by the corner", STEPS, f"{STEPS}\n    train.duration.steps: {{int: [40, 90]}}\n  grace: {{steps: 50}}", "search.grace: 50 steps are not less than the 40"),
    edit("grace without a unit", "trials: 8", "trials: 8\n  grace: 9", "search.grace", "exactly one of steps, epochs, examples"),
    edit("pbt of two", "asha\n  metric: validation/contrastive_divergence\n  trials: 8", "pbt\n  metric: validation/contrastive_divergence\n  trials: 2",
         "search.trials: a population of 2", "at least 4"),
    Case("pbt of a grid of three", (("asha", "pbt"), ("algorithm: random", "algorithm: grid"), ("  trials: 8\n", ""), (f"    {RATE}\n", ""), (STEPS, "sampler.steps: {choice: [20, 30, 40]}")),
         ("search.space: a population of 3 has no good quarter", "at least 4")),
    edit("pbt and tpe", "random\n  scheduler: asha", "tpe\n  scheduler: pbt", "search.algorithm: tpe learns which parameters are good"),
    Case("pbt of shapes", (("asha", "pbt"), (STEPS, f"{STEPS}\n    model.hidden: {{int: [8, 16]}}")), ("job.yaml:15: search.space.model.hidden: pbt cannot vary it",)),
    Case("pbt of the data's order", (("asha", "pbt"), (STEPS, f"{STEPS}\n    train.seed: {{int: [8, 16]}}")), ("search.space.train.seed: pbt cannot vary it",)),
    Case("pbt of optimizers", (("asha", "pbt"), (STEPS, f"{STEPS}\n    train.optimizer.kind: {{choice: [adam, sgd]}}")), ("search.space.train.optimizer.kind: pbt cannot vary it",)),
    Case("pbt of a momentum from 0", (("asha", "pbt"), ("kind: adam", "kind: sgd"), (STEPS, f"{STEPS}\n    train.optimizer.momentum: {{uniform: [0.0, 0.9]}}")),
         ("search.space.train.optimizer.momentum: with some of these values the optimizer keeps state", "leave 0 out")),
    Case("pbt between checkpoints", (("asha", "pbt"), ("trials: 8", "trials: 8\n  grace: {steps: 12}")),
         ("job.yaml:19: search.grace: pbt looks every 12 steps, and there is a checkpoint every 5", "search.grace={steps: 10}")),
    Case("pbt at ninths", (("asha", "pbt"), ("steps: 90", "steps: 95")), ("search.grace: pbt looks every ninth of 95 steps, and there is a checkpoint every 5",)),
    Case("pbt with checkpoints by the clock", (("asha", "pbt"), ("checkpoint: {every: {steps: 5}}", "checkpoint: {every: {minutes: 5}}")), ("job.yaml:9: checkpoint.every: pbt copies checkpoints",)),
    Case("secret in a choice", ((STEPS, f"sampler.steps: {{choice: [20, {AWS_ID}]}}"),), ("job.yaml:14: search.space.sampler.steps.choice.1: this looks like an AWS access key id",), secret=AWS_ID),
    Case("two mistakes", ((STEPS, "sampler.stpes: {int: [20, 120]}"), (RATE, "train.optimizer: {log: [1, 2]}")), ("search.space.sampler.stpes: unknown key", "search.space.train.optimizer: a mapping"), letters=2),
]  # fmt: skip
CASES = [*RANGES, *PATHS, *CONDITIONS, *CORNERS, *WHOLE]


def text(case: Case) -> str:
    found = GOOD
    for old, new in case.edits:
        assert found.count(old) == 1, old
        found = found.replace(old, new)
    return found


def test_there_are_enough() -> None:
    assert len(CASES) >= 80
    assert len({case.name for case in CASES}) == len(CASES)


def test_the_good_sweep_is_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(GOOD)
    code, out, err = lehr(["check", "job.yaml"], capsys, monkeypatch)
    assert (code, err) == (0, "")
    assert "a sweep of 8 trials over 2 keys (random, asha)" in out


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_malformed(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(text(case))
    code, out, err = lehr(["check", "job.yaml"], capsys, monkeypatch)
    assert (code, out) == (2, ""), err
    for words in case.said:
        assert words in err
    assert len([line for line in err.splitlines() if not line.startswith("  ")]) == case.letters, err
    assert "Traceback" not in err
    assert "pydantic" not in err
    assert not case.secret or case.secret not in err
    assert [path.name for path in tmp_path.iterdir()] == ["job.yaml"]


@pytest.mark.parametrize("command", ["plan", "run", "sweep"])
def test_every_command_refuses_it(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(GOOD.replace("sampler.steps:", "sampler.stpes:"))
    code, out, err = lehr([command, "job.yaml"], capsys, monkeypatch)
    assert (code, out) == (2, "")
    assert ("this is a sweep" if command == "run" else "did you mean sampler.steps?") in err
    assert [path.name for path in tmp_path.iterdir()] == ["job.yaml"]


def test_a_thousand_corners_are_one_letter_in_seconds() -> None:
    ranges = ", ".join(f"{path}: {{choice: [1, 2, 3, 4]}}" for path in (
        "sampler.step_size", "sampler.noise", "objective.regulariser", "train.optimizer.epsilon"))  # fmt: skip
    space = f"search.space={{{ranges}, train.global_batch: {{choice: [32, 64, 96, 128]}}}}"
    begun = time.perf_counter()
    with pytest.raises(SpecError) as refused:
        program.make(specs.parse(GOOD, sets=[space]))
    assert time.perf_counter() - begun < 60
    said = str(refused.value)
    assert said.startswith(
        "--set search.space: search.space.train.global_batch: with train.global_batch: 96, sampler."
    )
    assert len(said.splitlines()) == 2


def test_a_range_can_be_set() -> None:
    sets = ["search.space.sampler.steps={int: [30, 60]}", "search.space.sampler.noise={log: [0.1, 1]}"]
    search = specs.parse(GOOD, sets=sets).search
    assert search is not None
    assert list(search.space) == ["train.optimizer.learning_rate", "sampler.steps", "sampler.noise"]
    assert search.space["sampler.steps"].values == (30, 60)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 200),
    st.floats(-2, 50),
    st.sampled_from(["adam", "sgd", "x", "", "1"]),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["kind", "steps"]), inner, max_size=2)
    ),
    max_leaves=4,
)
PATHS_TO_TRY = [*paths.every(), "", ".", "a..b", "sampler.", "model.filters.0", "train.seed.x", "none"]
ranges = st.dictionaries(
    st.sampled_from(["log", "uniform", "int", "choice", "step", "q"]), values, max_size=2
)
likely = st.one_of(
    st.tuples(st.sampled_from(["log", "uniform"]), st.floats(0.001, 5), st.floats(5.5, 60)).map(
        lambda one: {one[0]: [one[1], one[2]]}
    ),
    st.tuples(st.integers(1, 20), st.integers(1, 200)).map(lambda one: {"int": [one[0], one[0] + one[1]]}),
    st.lists(scalars, min_size=1, max_size=4).map(lambda some: {"choice": some}),
)
conditions = st.dictionaries(st.sampled_from(PATHS_TO_TRY), values, max_size=2).map(
    lambda when: {"when": when}
)
any_range = st.one_of(
    likely, likely, ranges, st.builds(lambda one, when: one | when, likely, conditions), values
)
usual = {
    "sampler.step_size": {"log": [1, 30]},
    "sampler.steps": {"int": [20, 60], "step": 20},
    "sampler.noise": {"uniform": [0, 0.1], "step": 0.05, "when": {"sampler.steps": 40}},
    "train.global_batch": {"choice": [64, 128]},
    "objective.regulariser": {"choice": [0, 0.1], "when": {"train.global_batch": [64], "sampler.steps": [20]}},
    "model.filters": {"choice": [[4], [4, 8]]},
    "train.duration.steps": {"int": [50, 80]},
}  # fmt: skip
odd = st.dictionaries(st.sampled_from(PATHS_TO_TRY), any_range, max_size=1)
parts = st.sets(st.sampled_from(sorted(usual)), min_size=1).map(
    lambda names: {name: usual[name] for name in names}
)
spaces_to_try = st.builds(lambda few, one: {**few, **one}, parts, st.one_of(st.just({}), odd, odd))


def accepted(document: dict[str, object]) -> program.Program | None:
    try:
        return program.make(specs.restore(document))
    except SpecError:
        return None


@settings(max_examples=100)
@given(
    space=spaces_to_try,
    algorithm=st.sampled_from(["grid", "random", "tpe", "bohb"]),
    scheduler=st.sampled_from(["none", "asha", "hyperband", "pbt"]),
    trials=st.sampled_from([None, 1, 8]),
)
def test_whatever_a_search_says_is_answered(
    space: object, algorithm: str, scheduler: str, trials: int | None
) -> None:
    """A program whose trials are planned, or letters: never another error."""
    document = specs.parse(GOOD).document()
    document["search"] |= {"space": space, "algorithm": algorithm, "scheduler": scheduler, "trials": trials}
    made = accepted(document)
    event("refused" if made is None else "accepted")
    if made is not None:
        for parameters in itertools.islice(spaces.corners(made.search.space), 3):
            assert spaces.contains(made.search.space, parameters)
            assert made.plan(Start(1, 1, "x-0001", parameters)).steps > 0
        assert program.cost(made).steps_expected > 0
