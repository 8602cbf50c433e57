"""Plans: every number worked out, and the same after a journey through JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr import plan as plans
from lehr import spec as specs
from lehr.cadence import NEVER, Cadence
from lehr.cli import table
from lehr.errors import SpecError, UserError
from lehr.spec import tree as trees

JOBS = Path(__file__).resolve().parents[2] / "jobs"
EBM = (JOBS / "ebm-mnist.yaml").read_text()
LENET = (JOBS / "lenet-fashion.yaml").read_text()
OWN_DATA = """data={
  kind: 'mine.data:load', shape: [12, 12, 3], train_examples: 1000, validation_examples: 0, classes: 10
}"""
NO_BEST = "checkpoint.keep_best=null"


def planned(text: str = EBM, *sets: str, run_id: str | None = None) -> plans.Plan:
    return plans.make(specs.parse(text, sets=sets), run_id=run_id)


def test_the_book() -> None:
    plan = planned()
    assert (plan.run_id, plan.replicas, plan.global_batch, plan.batch_per_replica) == (
        "ebm-mnist",
        1,
        128,
        128,
    )
    assert (plan.train_examples, plan.validation_examples) == (60_000, 10_000)
    assert (plan.steps_per_epoch, plan.steps) == (469, 28_140)
    assert plan.parameters == 76_993
    assert plan.checkpoint_bytes == 4 * 3 * 76_993 + 8192 * (4 * 32 * 32 + 8) + 2 * 8 * 128
    assert (plan.checkpoint_every, plan.validate_every) == (Cadence(steps=469), Cadence(steps=469))
    assert plan.track_every == Cadence(steps=10)


def test_lenet() -> None:
    plan = planned(LENET)
    assert (plan.parameters, plan.checkpoint_bytes) == (61_706, 4 * 61_706)
    assert (plan.steps, plan.samples_every, plan.checkpoints_kept) == (4_690, NEVER, 3)
    assert planned(LENET, "train.optimizer.momentum=0.9").checkpoint_bytes == 2 * 4 * 61_706


def test_the_batch_and_the_threads_of_a_worker() -> None:
    plan = planned(EBM, "strategy={kind: multiworker, workers: 4, devices_per_worker: 2, cpus_per_worker: 3}")
    assert (plan.workers, plan.devices_per_worker, plan.replicas) == (4, 2, 8)
    assert (plan.batch_per_worker, plan.batch_per_replica, plan.threads_per_worker) == (32, 16, 3)


def test_limits_cap_the_examples() -> None:
    plan = planned(EBM, "data.train_examples=1000", "data.validation_examples=999999")
    assert (plan.train_examples, plan.validation_examples, plan.steps_per_epoch) == (1000, 10_000, 8)


def test_digits_are_split_as_the_source_splits_them() -> None:
    plan = planned(EBM, "data={kind: digits, range: [-1, 1]}")
    assert (plan.train_examples, plan.validation_examples, plan.spec.data.shape) == (1500, 297, (8, 8, 1))


def test_cadences_in_every_unit() -> None:
    plan = planned(
        EBM, "checkpoint.every={minutes: 2.5}", "samples.every={examples: 60001}",
        "validation.every={steps: 7}",
        "train.duration={examples: 129}",
    )  # fmt: skip
    assert plan.checkpoint_every == Cadence(minutes=2.5)
    assert plan.samples_every == Cadence(steps=470)
    assert plan.validate_every == Cadence(steps=7)
    assert plan.steps == 2


def test_what_only_the_code_knows_is_none() -> None:
    own = "model={kind: 'mine.models:Net'}", "objective={kind: 'mine.objectives:Loss'}"
    plan = planned(LENET, *own, OWN_DATA, NO_BEST)
    assert (plan.parameters, plan.checkpoint_bytes) == (None, None)
    assert (plan.train_examples, plan.validate_every) == (1000, NEVER)
    assert dict(table.rows(plan))["parameters"] == "known when the model is built"


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ((OWN_DATA.replace("12, 12, 3", "10, 10, 1"), NO_BEST), "12 x 12 are needed; 10 x 10 x 1 came"),
        (("data.image_size=8",), "model lenet: images of at least 12 x 12 are needed; 8 x 8"),
        ((OWN_DATA.replace("12, 12, 3", "144"), NO_BEST), "data.shape: model lenet: images"),
        ((OWN_DATA.replace("classes: 10", "classes: 11"), NO_BEST), "data.classes: 11 classes are more"),
        ((OWN_DATA.replace(", classes: 10", ""), NO_BEST), "data.classes: missing"),
        ((OWN_DATA,), "validation/accuracy: there are no held-out examples"),
        (("checkpoint.keep_best.metric=validation/acuracy",), "did you mean validation/accuracy?"),
    ],
)  # fmt: skip
def test_what_does_not_fit(sets: tuple[str, ...], said: str) -> None:
    with pytest.raises(SpecError) as refused:
        planned(LENET, *sets)
    assert said in str(refused.value)


def test_all_that_does_not_fit_is_told_at_once() -> None:
    with pytest.raises(SpecError) as refused:
        planned(
            EBM,
            "strategy={kind: horovod, workers: 3, devices_per_worker: 2}",
            "sampler.buffer.size=100",
            "search={space: {sampler.steps: {int: [1, 2]}}, metric: validation/real_score}",
        )
    places = [line.split(": ")[1] for line in str(refused.value).splitlines() if line.startswith("--set")]
    assert places == ["search", "strategy.devices_per_worker", "sampler.buffer.size"]
    assert "train.global_batch: 128 examples" in str(refused.value)


def test_a_restored_spec_is_refused_without_a_line() -> None:
    document = specs.parse(EBM).document()
    document["strategy"]["workers"] = 3
    with pytest.raises(SpecError, match=r"^strategy\.workers: strategy single has one worker"):
        plans.make(specs.restore(document))


@pytest.mark.parametrize("run_id", ["", "a/b", "../a", ".hidden", "a b", "x" * 101, "a\n"])
def test_run_ids_that_cannot_be_folders(run_id: str) -> None:
    if not run_id:
        assert planned(EBM, run_id=run_id).run_id == "ebm-mnist"
        return
    with pytest.raises(UserError, match="cannot name a run's folder"):
        planned(EBM, run_id=run_id)


@pytest.mark.parametrize("text", [EBM, LENET])
def test_through_json_and_back(text: str) -> None:
    plan = planned(text, "checkpoint.every={minutes: 0.5}", run_id="again-7")
    document = json.loads(json.dumps(plan.document()))
    assert plans.restore(document) == plan
    assert document["spec"]["name"] == plan.spec.name
    assert document["checkpoint_every"] == {"steps": None, "minutes": 0.5}


@pytest.mark.parametrize(
    ("change", "said"), [({"format": 99}, "format 99"), ({"steps": ...}, "steps missing")]
)
def test_what_is_no_plan(change: dict[str, Any], said: str) -> None:
    document = {key: value for key, value in (planned().document() | change).items() if value is not ...}
    with pytest.raises(UserError, match=said):
        plans.restore(document)


def test_a_plan_holds_references_and_gives_secrets_only_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEHR_TEST_SECRET", "sesame")
    plan = planned(EBM, "storage_options={secret: env:LEHR_TEST_SECRET}")
    assert "sesame" not in json.dumps(plan.document()) + repr(plan)
    assert plan.storage_options() == {"secret": "sesame"}


@given(
    batch=st.integers(1, 512), workers=st.integers(1, 16), devices=st.integers(1, 4), rings=st.integers(1, 8),
    examples=st.integers(1, 60_000), epochs=st.integers(1, 5),
)  # fmt: skip
def test_shares_add_up_or_are_refused(
    batch: int, workers: int, devices: int, rings: int, examples: int, epochs: int
) -> None:
    sets = [
        f"train.global_batch={batch}", f"sampler.buffer.size={rings * batch}",
        f"data.train_examples={examples}",
        f"strategy={{kind: multiworker, workers: {workers}, devices_per_worker: {devices}}}",
        f"train.duration={trees.write({'epochs': epochs})}",
    ]  # fmt: skip
    if batch % (workers * devices):
        with pytest.raises(SpecError, match="cannot be divided evenly"):
            planned(EBM, *sets)
        return
    plan = planned(EBM, *sets)
    assert (
        plan.batch_per_worker * plan.workers
        == plan.batch_per_replica * plan.replicas
        == plan.global_batch
        == batch
    )
    assert (plan.steps_per_epoch - 1) * batch < examples <= plan.steps_per_epoch * batch
    assert plan.steps == epochs * plan.steps_per_epoch


def test_the_table_says_what_the_plan_says() -> None:
    rows = dict(table.rows(planned(EBM, "strategy={kind: horovod, workers: 2}")))
    assert rows["batch"] == "128 = 2 x 64 a worker"
    assert rows["steps"] == "28,140 = 60 epochs of 469; the last batch of an epoch has 96"
    assert rows["checkpoint size"] == "32.95 MiB (weights, optimizer, chains) x 2 kept = 65.89 MiB"
    assert rows["W&B"].startswith(
        "18 points a row, a row every 10 steps (2,814 times); points a minute: 108 at 1, 1,080 at 10"
    )
    assert rows["samples"] == "every 469 steps (60 times)"


def test_the_table_says_which_sizes_an_elastic_run_may_have() -> None:
    rows = dict(table.rows(planned(EBM, "strategy={kind: horovod, workers: [1, 4]}")))
    assert rows["strategy"] == "horovod: 1, 2 or 4 of [1, 4] workers x 1 device, 1 thread a worker"
    assert rows["batch"] == "128 = 1 x 128 = 2 x 64 = 4 x 32 a worker"


@given(batch=st.integers(1, 256), least=st.integers(1, 8), more=st.integers(1, 8))
def test_every_size_of_an_elastic_run_divides_its_batch(batch: int, least: int, more: int) -> None:
    most = least + more
    sets = (f"train.global_batch={batch}", f"strategy={{kind: horovod, workers: [{least}, {most}]}}",
            f"sampler.buffer.size={4 * batch}")  # fmt: skip
    possible = [n for n in range(least, most + 1) if batch % n == 0]
    if not possible:
        with pytest.raises(
            SpecError, match=f"cannot be divided evenly over any of {least} to {most} workers"
        ):
            planned(EBM, *sets)
        return
    plan = planned(EBM, *sets)
    assert list(plan.sizes) == possible
    assert plan.workers == possible[-1]
    for size in plan.sizes:
        there = plan.at(size)
        assert there.batch_per_worker * there.workers == batch
        assert (there.spec_hash, there.steps, there.sizes) == (plan.spec_hash, plan.steps, plan.sizes)


def test_a_type_of_gpu_without_gpus_is_a_mistake() -> None:
    with pytest.raises(
        SpecError, match=r"strategy\.accelerator: H100 is a type of GPU, and strategy\.gpus is"
    ):
        planned(EBM, "strategy={kind: horovod, workers: 2, accelerator: H100, gpus: false}")


def test_a_cadence_longer_than_the_run_is_told() -> None:
    assert (
        dict(table.rows(planned(EBM, "train.duration={steps: 5}")))["validation"]
        == "every 469 steps (never: the run is shorter)"
    )


def test_a_spool_without_room_for_a_checkpoint_is_warned_of() -> None:
    assert planned().warnings() == []
    [warning] = planned(EBM, "recovery.spool_gib=0.001").warnings()
    assert warning.startswith(
        "--set recovery.spool_gib: recovery.spool_gib: 0.001 GiB are less than one checkpoint (0.0322 GiB)"
    )
    assert dict(table.rows(planned(EBM, "recovery.spool_gib=0.001")))["storage fails"].endswith(
        "too little for one checkpoint)"
    )


@pytest.mark.parametrize(
    ("policy", "words"),
    [("pause", "then waits for it"), ("stop", "then gives up"), ("continue", "with nothing saved")],
)
def test_what_happens_without_storage_is_shown(policy: str, words: str) -> None:
    row = dict(table.rows(planned(EBM, f"recovery.on_storage_outage={policy}")))["storage fails"]
    assert row.startswith("trains on for 30 min,")
    assert words in row
    assert "4 GiB of each worker's disk (124 checkpoints)" in row


def test_a_store_whose_package_is_not_here_is_warned_of() -> None:
    [warning] = planned(EBM, "storage=gs://bucket/runs").warnings()
    assert "gs:// needs gcsfs, which is not installed here\n  do: pip install 'lehr[gcs]'" in warning
