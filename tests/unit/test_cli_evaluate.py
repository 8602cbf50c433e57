"""`lehr evaluate`: what a kind of model can be asked, what is refused, and where the numbers go."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fakes
import jobs
from lehr import journal
from lehr.checkpoint import Saver, State
from lehr.cli import evaluate as command
from lehr.cli import overview, stored
from lehr.errors import UserError
from lehr.evaluations import asking, recipe, records
from lehr.evaluations.asking import OF_IMAGES, Question, Trained
from lehr.journal import Journal
from lehr.launch import evaluation, taken
from lehr.plan import Plan
from lehr.store import Store

EBM = jobs.plan(jobs.EBM)
LENET = jobs.plan(jobs.LENET, "data.image_size=16")


def question(plan: Plan = EBM, **changes: Any) -> Question:
    subject = Trained(plan.document(), {}, {}, {}, "here")
    return replace(Question(subject, subject, ("validation", *OF_IMAGES), 100, 0, {}), **changes)


def a_run(folder: Path, plan: Plan = EBM, *, step: int = 10) -> Store:
    """A run's folder with a checkpoint."""
    run = jobs.storage(folder).below(plan.run_id)
    run.write("plan.json", json.dumps(plan.document()).encode())
    diary = Journal(run, 1)
    diary.start(0)
    diary.metrics(step, {"train/loss": 1.0})
    diary.close()
    weights = {"kernel": np.arange(3, dtype=np.float32)}
    saver = Saver(run, rank=0, workers=1, attempt=1, spec_hash=plan.spec_hash, keep=plan.spec.checkpoint)
    optimizer = {"0000/momentum": weights["kernel"], "average/kernel": weights["kernel"] + 1}
    saver.save(step, State(weights, optimizer, {}, 0, 0, {}), {"validation/accuracy": 0.75})
    saver.wait()
    return run


# --- what can be asked ------------------------------------------------------------------------------


def test_a_model_of_images_is_asked_all_and_a_classifier_only_its_objective() -> None:
    assert asking.chosen(EBM) == ("validation", "fid", "kid", "precision", "recall")
    assert asking.chosen(EBM, ["kid", "validation"]) == ("validation", "kid")
    assert asking.chosen(LENET) == ("validation",)


@pytest.mark.parametrize(
    ("plan", "names", "said"),
    [
        (
            EBM,
            ["is"],
            "--metrics: there is no metric 'is'\n  accepted: validation, fid, kid, precision, recall",
        ),
        (EBM, ["ais"], "--metrics: ais: ebm is no rbm"),
        (LENET, ["fid"], "--metrics: fid: lenet draws no samples\n  accepted: validation"),
        (
            jobs.plan(jobs.EBM, "data.image_size=null"),
            ["kid"],
            "kid: images of 12 x 12 pixels or more are needed",
        ),
    ],
)
def test_what_a_model_cannot_give_is_refused_with_what_it_can(
    plan: Plan, names: list[str], said: str
) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        asking.chosen(plan, names)


def test_small_images_may_be_judged_by_an_extractor_of_ones_own() -> None:
    small = jobs.plan(jobs.EBM, "data.image_size=null")
    assert asking.chosen(small) == ("validation",)
    assert asking.chosen(small, given=True) == ("validation", *OF_IMAGES)


def test_fewer_samples_than_features_give_no_fid_but_a_kid() -> None:
    evaluation.require(question(count=85))
    with pytest.raises(UserError, match=r"--count: 84 samples.*\n  accepted: 85 or more"):
        evaluation.require(question(count=84))
    evaluation.require(question(count=84, metrics=("kid",)))
    few = jobs.plan(jobs.EBM, "data.train_examples=84")
    with pytest.raises(UserError, match="84 training examples, and 84 features need 85"):
        evaluation.require(question(few))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"step": "last"}, "--step: 'last' is not a step"),
        ({"metrics": "fid,inception"}, "there is no metric 'inception'"),
        ({"temperature": 0.5}, "--temperature: samples of ebm have no temperature\n  accepted: --steps"),
        ({"step": "7"}, "there is no checkpoint of step 7"),
        ({"features": "ebm"}, "--features: "),
        ({"features": "lenet", "count": 10}, "--count: 10 samples"),
        ({"count": 10}, "--count: 10 samples"),
        ({"count": 3, "metrics": "kid"}, "accepted: 4 or more of each"),
    ],
)
def test_mistakes_are_told_before_anything_is_computed(
    options: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "here", lambda question: pytest.fail("computed"))
    monkeypatch.setattr(taken, "extractor", lambda plan: pytest.fail("trained a LeNet"))
    run = a_run(tmp_path)
    a_run(tmp_path, LENET)
    with pytest.raises(UserError, match=re.escape(said)):
        command.evaluate("ebm", storage=str(tmp_path), **options)
    assert records.read(run) == []


def test_settings_are_written_out_whole() -> None:
    """The numbers depend on them, whoever chose them."""
    assert asking.settings(EBM, {"steps": None}) == {"steps": 1000}
    told = jobs.plan(jobs.EBM, "samples={every: {epochs: 1}, steps: 30}")
    assert asking.settings(told, {"steps": None, "temperature": None}) == {"steps": 30}
    assert asking.settings(told, {"steps": 7}) == {"steps": 7}


# --- the extractor ------------------------------------------------------------------------------------


def test_the_recipe_takes_all_of_the_data_at_the_runs_size() -> None:
    """So runs on parts of it, in other ranges and elsewhere are judged by the same features."""
    base = recipe.job(EBM)
    assert base.spec.data.shape == EBM.spec.data.shape
    assert (base.train_examples, base.spec.data.bounds, base.steps) == (1500, (0.0, 1.0), recipe.STEPS)
    other = jobs.plan(jobs.EBM, "data.train_examples=200", "data.root=/elsewhere", "train.seed=4")
    assert recipe.job(other).spec_hash == base.spec_hash
    assert recipe.job(jobs.plan(jobs.EBM, "data.image_size=28")).spec_hash != base.spec_hash


def test_a_hash_is_of_every_bit_of_the_weights() -> None:
    weights = {"a": np.zeros((2, 3), np.float32), "b": np.ones(2, np.float32)}
    base = Trained({}, weights, {}, {}, "").sha256
    assert Trained({}, dict(reversed(weights.items())), {}, {}, "elsewhere").sha256 == base
    for changed in (
        {"a": weights["a"].T},
        {"b": np.nextafter(weights["b"], np.float32(2))},
        {"b": weights["b"].astype(np.float64)},
    ):
        assert Trained({}, weights | changed, {}, {}, "").sha256 != base
    assert Trained({}, weights, {"average/a": weights["a"]}, {}, "").sha256 != base


def test_what_is_taken_from_a_checkpoint(tmp_path: Path) -> None:
    """Its weights, their running means, its assets; nothing else of the optimizer."""
    run = a_run(tmp_path, LENET)
    run.write("assets/vocabulary.txt", b"the a")
    found = taken.of_run(run, source="lenet")
    assert (list(found.weights), list(found.averages)) == (["kernel"], ["average/kernel"])
    assert (found.assets, found.metrics) == ({"vocabulary.txt": b"the a"}, {"validation/accuracy": 0.75})
    assert found.source == "step-00000010.a1 of lenet"
    with pytest.raises(UserError, match="trains ebm\n  accepted: a run of model lenet that has a checkpoint"):
        taken.of_run(a_run(tmp_path), source="it")


# --- where the numbers go -----------------------------------------------------------------------------


def record(run: Store, value: float = 1.0, **facts: Any) -> str:
    source = {"name": "step-00000010.a1", "manifest_sha256": "ab"}
    return records.write(
        run, step=10, attempt=1, checkpoint=source, values={"validation/loss": value}, facts=facts
    )


def test_several_at_once_each_get_a_file_and_the_attempts_story_stays() -> None:
    run = fakes.MemoryStore()
    assert journal.claim_attempt(run) == 1
    before = dict(run.objects)
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda i: record(run, float(i)), range(20)))
    assert sorted(keys) == [records.key(i) for i in range(1, 21)]
    assert sorted(e["values"]["validation/loss"] for e in records.read(run)) == list(range(20))
    assert all(run.objects[key] == data for key, data in before.items())
    assert (journal.attempts(run), journal.read(run)) == ([1], [])
    assert journal.claim_attempt(run) == 2


def test_numbers_that_are_none_come_back_and_broken_files_are_passed_over() -> None:
    run = fakes.MemoryStore()
    record(run, float("nan"), counts={"samples": 3})
    run.write(records.key(2), b"{torn")
    run.write(records.key(3), b"[]")
    assert record(run).endswith("0004.jsonl")
    first, last = records.read(run)
    assert np.isnan(first["values"]["validation/loss"])
    assert first["counts"] == {"samples": 3}
    assert last["values"] == {"validation/loss": 1.0}


def test_the_command_writes_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = a_run(tmp_path)
    a_run(tmp_path, LENET)
    asked: list[Question] = []

    def here(question: Question) -> evaluation.Answer:
        asked.append(question)
        return evaluation.Answer({"samples/fid_lenet": 12.5, "noise/fid_lenet": 99.0}, {"samples": 90}, 2.0)

    monkeypatch.setattr(evaluation, "here", here)
    command.evaluate("ebm", storage=str(tmp_path), count=90, steps=7, metrics="fid", features="lenet")
    said = capsys.readouterr().out
    [sent], [entry] = asked, records.read(run)
    assert (sent.metrics, sent.count, sent.seed, sent.settings) == (("fid",), 90, 0, {"steps": 7})
    assert entry["values"] == {"samples/fid_lenet": 12.5, "noise/fid_lenet": 99.0}
    assert (entry["counts"], entry["seed"], entry["steps"]) == ({"samples": 90}, 0, 7)
    assert sent.extractor is not None
    assert entry["features"] == {
        "kind": "lenet", "dimension": 84, "sha256": sent.extractor.sha256, "accuracy": 0.75, "scale": 2.0,
        "source": f"step-00000010.a1 of {tmp_path}/lenet",
    }  # fmt: skip
    assert "samples/fid_lenet  12.5\n" in said
    assert f"our LeNet {sent.extractor.sha256[:12]}, 75.0 % right" in said
    assert "not of Inception" in said
    assert f"{tmp_path}/ebm/journal/evaluation-0001.jsonl" in said
    shown = "\n".join(overview.lines(stored.read(run)))
    assert "evaluations\n" in shown
    assert f"90 samples by LeNet {sent.extractor.sha256[:12]}  samples/fid_lenet 12.5" in shown


def test_a_perplexity_is_derived_where_words_are_guessed() -> None:
    """It is no share that adds, so no objective reports it."""

    def plan(kind: str) -> Any:
        return SimpleNamespace(spec=SimpleNamespace(objective=SimpleNamespace(kind=kind)))

    found = evaluation.derived(plan("language"), {"validation/loss": np.log(40.0)})
    assert found == {"validation/perplexity": pytest.approx(40.0)}
    assert evaluation.derived(plan("classification"), {"validation/loss": 1.0}) == {}
    assert evaluation.derived(plan("language"), {"ais/log_partition": 1.0}) == {}


# --- spread over tasks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tasks", [1, 2, 3, 4])
def test_portions_come_together_in_their_order_whoever_drew_them(tasks: int) -> None:
    """Portions of 30, the last one of 10; each row says its number."""
    asked = question(portion=30, metrics=("kid",), count=100, baselines=True)
    answers: list[Any] = []
    for bundle in reversed(evaluation._bundles(asked, tasks)):
        for name, portions in bundle:
            rows = [np.arange(30 * p, min(30 * p + 30, 100)) for p in portions] or [np.arange(100)]
            answers.append(((name, portions), np.concatenate(rows)[:, np.newaxis] + 0.5))
    found = evaluation._joined(asked, "samples", answers)
    np.testing.assert_array_equal(found[:, 0], np.arange(100) + 0.5)
    answer = evaluation._together(asked, answers)
    assert answer.counts == {"samples": 100, "untrained": 100, "held_out": 100, "noise": 100, "data": 100}
    assert set(answer.values) == {
        f"{of}/kid_lenet{part}"
        for of in ("samples", "untrained", "held_out", "noise")
        for part in ("", "_error")
    }


def test_too_little_held_out_data_gives_no_fid_of_it() -> None:
    asked = question(count=90, metrics=("fid", "kid"), baselines=True)
    rows = np.random.default_rng(0).normal(size=(90, 84))
    answers: list[Any] = [((name, (0,) if name == "samples" else ()), rows) for name in ("samples", "data")]
    answers.append((("held_out", ()), rows[:50]))
    values = evaluation._together(asked, answers).values
    assert "samples/fid_lenet" in values
    assert "held_out/fid_lenet" not in values
    assert "held_out/kid_lenet" in values
