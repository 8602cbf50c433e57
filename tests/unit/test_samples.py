"""Sets of samples: what is written, in which order, never over another; and the command that draws them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fakes
import jobs
from lehr import figures, samples
from lehr.checkpoint import Saver, State
from lehr.cli import sample as command
from lehr.errors import CheckpointError, KeyMissing, StorageError, UserError
from lehr.journal import Journal
from lehr.plan import Plan
from lehr.samples import Drawn, Meta
from lehr.store import Store


def drawn(count: int = 4, seed: int = 0, **changes: Any) -> Drawn:
    """As of chains, with a text beside."""
    frames = np.random.default_rng(seed).uniform(-1, 1, (3, count, 8, 8, 1)).astype(np.float32)
    energies = np.linspace(2, 1, 20 * count, dtype=np.float32).reshape(20, count)
    made = Drawn(
        count, {"images": frames[-1], "frames": frames, "energies": energies},
        figures.pictures(frames[-1], frames, (0, 1, 20), energies), {"said": "é\n"}, {"steps": 20},
    )  # fmt: skip
    return replace(made, **changes)


def meta(**changes: Any) -> Meta:
    plan = jobs.plan(jobs.EBM, "train.seed=3")
    made = Meta.of(plan, step=1000, attempt=2, seed=3, settings={"temperature": 0.5})
    return replace(made, **changes)


def test_what_is_written_is_read_back() -> None:
    run, chains = fakes.MemoryStore(), drawn()
    samples.write(run, samples.at_step(1000), chains, meta())
    assert run.list() == [
        f"samples/step-00001000/{name}"
        for name in (
            "energies.npy",
            "energy.png",
            "frames.npy",
            "grid.png",
            "images.npy",
            "meta.json",
            "said.txt",
            "strip.png",
        )
    ]
    arrays, told = samples.read(run, samples.at_step(1000))
    for name, array in arrays.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, chains.arrays[name])
    assert sorted(arrays) == ["energies", "frames", "images"]
    assert run.read("samples/step-00001000/grid.png") == figures.grid(chains.arrays["images"])
    assert run.read("samples/step-00001000/said.txt").decode() == "é\n"
    assert (told["step"], told["attempt"], told["seed"], told["count"], told["steps"]) == (1000, 2, 3, 4, 20)
    assert told["temperature"] == 0.5
    assert (told["spec_hash"], told["range"]) == (jobs.plan(jobs.EBM, "train.seed=3").spec_hash, [-1, 1])
    assert told["versions"]["tensorflow"].startswith("2.")


def test_set_of_an_older_lehr_is_read() -> None:
    """Format 1 had chains alone, and did not name its arrays."""
    run, chains = fakes.MemoryStore(), drawn()
    samples.write(run, "samples/a", chains, meta())
    told = json.loads(run.read("samples/a/meta.json"))
    del told["arrays"]
    run.write("samples/a/meta.json", json.dumps(told | {"format": 1}).encode())
    assert sorted(samples.read(run, "samples/a")[0]) == ["energies", "frames", "images"]


def test_facts_that_are_no_numbers_are_still_json() -> None:
    run, odd = fakes.MemoryStore(), drawn(facts={"mean_energy": [float("nan"), np.float32("nan")]})
    samples.write(run, "samples/a", odd, meta())
    assert json.loads(run.read("samples/a/meta.json"), parse_constant=pytest.fail)["mean_energy"] == [
        "nan",
        "nan",
    ]


class Failing(fakes.MemoryStore):
    """Fails at the n-th write, counted from 1."""

    fails_at = 0

    def write(self, key: str, data: bytes) -> None:
        self.fails_at -= 1
        if self.fails_at == 0:
            raise StorageError("no space left")
        super().write(key, data)


@pytest.mark.parametrize("nth", range(1, 9))
def test_a_set_that_was_not_finished_is_not_whole(nth: int) -> None:
    """Neither when it is new, nor when it replaces one."""
    run, chains = Failing(), drawn(pictures={"grid": b"1", "strip": b"2", "energy": b"3"})
    samples.write(run, "samples/old", chains, meta())
    for folder in ("samples/old", "samples/new"):
        run.fails_at = nth
        with pytest.raises(StorageError):
            samples.write(run, folder, chains, meta())
        with pytest.raises(KeyMissing):
            samples.read(run, folder)


def test_what_somebody_asked_for_never_replaces_another_set() -> None:
    run = fakes.MemoryStore()
    place = samples.asked_for(1000, count=4, settings={"steps": 20})
    assert place == "samples/step-00001000-count-4-steps-20"
    assert (
        samples.asked_for(7, count=1, settings={"steps": 2}, seed=5)
        == "samples/step-00000007-count-1-steps-2-seed-5"
    )
    found = [samples.write_new(run, place, drawn(seed=i), meta()) for i in range(3)]
    assert found == [place, f"{place}-2", f"{place}-3"]
    for i, name in enumerate(found):
        np.testing.assert_array_equal(samples.read(run, name)[0]["images"], drawn(seed=i).arrays["images"])


# --- lehr sample ----------------------------------------------------------------------------------


def a_run(folder: Path, plan: Plan, weights: dict[int, dict[str, np.ndarray]]) -> Store:
    """A run's folder as training leaves it: plan, a journal of two points, a checkpoint of each weights."""
    run = jobs.storage(folder).below(plan.run_id)
    run.write("plan.json", json.dumps(plan.document()).encode())
    journal = Journal(run, 1)
    for step in (1, 2):
        journal.metrics(step, {"train/loss": 1.0 / step, "epoch": step / 5})
    journal.close()
    for step, values in weights.items():
        saver = Saver(run, rank=0, workers=1, attempt=1, spec_hash=plan.spec_hash, keep=plan.spec.checkpoint)
        saver.save(step, State(values, {}, {}, 0, 0, {}), {})
        saver.wait()
    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Store]:
    """A run with checkpoints of steps 5 and 10, of other weights each."""
    from lehr.worker.build import network
    from lehr.worker.state import named_weights

    folder, plan = tmp_path_factory.mktemp("runs"), jobs.plan(jobs.EBM)
    weights = {name: v.numpy() for name, v in named_weights(network(plan, plan.spec.data.shape)).items()}
    return folder, a_run(folder, plan, {step: {k: v * step for k, v in weights.items()} for step in (5, 10)})


def draw(trained: tuple[Path, Store], **options: Any) -> str:
    """Run the command; the folder that is new."""
    folder, run = trained
    before = set(run.folders("samples"))
    command.sample("ebm", **{"count": 3, "steps": 12, "storage": str(folder)} | options)
    [new] = set(run.folders("samples")) - before
    return f"samples/{new}"


@pytest.mark.slow
def test_samples_of_two_checkpoints_are_the_same_chains(
    trained: tuple[Path, Store], capfd: pytest.CaptureFixture[str]
) -> None:
    folder, run = trained
    newest, older = draw(trained), draw(trained, step="5")
    assert (newest, older) == tuple(f"samples/step-{s:08d}-count-3-steps-12" for s in (10, 5))
    (a, told), (b, _) = samples.read(run, newest), samples.read(run, older)
    assert (a["images"].shape, a["energies"].shape) == ((3, 16, 16, 1), (12, 3))
    assert told["frame_steps"] == [0, 1, 3, 5, 10, 12]
    assert told["sampler"] == {
        "kind": "langevin", "step_size": 10.0, "noise": 0.005, "noise_end": None, "acceptance": False,
        "gradient_clip": 0.03,
    }  # fmt: skip
    assert told["purposes"] == {"start": "SAMPLE_START", "noise": "SAMPLE_NOISE"}
    ends = [energies.mean() for energies in a["energies"][[0, -1]]]
    np.testing.assert_allclose(told["mean_energy"], ends, rtol=1e-6)
    assert told["checkpoint"]["name"] == "step-00000010.a1"
    np.testing.assert_array_equal(a["frames"][0], b["frames"][0])  # the starts
    assert (a["frames"][-1] != b["frames"][-1]).any()  # other weights
    said = capfd.readouterr()
    for picture in (f"{newest}/grid.png", f"{older}/strip.png", "figures/curves.png"):
        assert f"{folder}/ebm/{picture}\n" in said.out
        assert run.read(picture).startswith(b"\x89PNG")
    assert said.err == ""  # TensorFlow's remarks are in logs/sample.log


@pytest.mark.slow
def test_what_decides_samples(trained: tuple[Path, Store]) -> None:
    _, run = trained
    base = samples.read(run, draw(trained, steps=4))[0]
    more = samples.read(run, draw(trained, steps=4, count=5))[0]
    again = draw(trained, steps=4)
    assert again.endswith("-2")
    np.testing.assert_array_equal(samples.read(run, again)[0]["images"], base["images"])
    np.testing.assert_allclose(more["images"][:3], base["images"], atol=1e-5)  # sample i, however many
    other = samples.read(run, draw(trained, steps=4, seed=9))[0]
    assert (other["frames"][0] != base["frames"][0]).any()
    still, told = samples.read(
        run, draw(trained, steps=4, sets=["sampler.noise=0", "sampler.step_size=1.0e-30"])
    )
    np.testing.assert_array_equal(still["images"], still["frames"][0])  # nothing moves
    assert told["sampler"]["noise"] == 0


def test_a_model_without_sampler(tmp_path: Path) -> None:
    a_run(tmp_path, jobs.plan(jobs.LENET), {})
    with pytest.raises(UserError) as refused:
        command.sample("lenet", storage=str(tmp_path))
    assert "lenet trains a lenet, and this kind of model has no sampler" in str(refused.value)
    assert f"do: look at its curves: {tmp_path}/lenet/figures/curves.png" in str(refused.value)
    assert (tmp_path / "lenet/figures/curves.png").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"step": "last"}, "--step: 'last' is not a step"),
        ({"temperature": 0.5}, "--temperature: samples of model ebm have no temperature"),
        ({"top_k": 3}, "accepted: --count, --steps, --seed"),
        ({"step": "7"}, "there is no checkpoint of step 7\n  accepted: none at all"),
        ({}, "run ebm has no checkpoint yet"),
        ({"sets": ["sampler.steps=3"]}, "'sampler.steps' has no effect on samples of a trained model"),
        (
            {"sets": ["train.seed=3"]},
            "accepted: sampler.step_size, sampler.noise, sampler.noise_end, sampler.acceptance",
        ),
        ({"sets": ["sampler.noise=-1"]}, "sampler.noise: -1 is not accepted"),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(options: Any, said: str, tmp_path: Path) -> None:
    run = a_run(tmp_path, jobs.plan(jobs.EBM), {})
    with pytest.raises(UserError, match=re.escape(said)):
        command.sample("ebm", storage=str(tmp_path), **options)
    assert run.list("samples") == []


def test_a_run_without_plan_and_one_that_is_not_there(tmp_path: Path) -> None:
    run = a_run(tmp_path, jobs.plan(jobs.EBM), {})
    run.delete("plan.json")
    with pytest.raises(UserError, match=r"plan\.json is missing or cannot be read"):
        command.sample("ebm", storage=str(tmp_path))
    with pytest.raises(UserError, match=r"there is no run 'abm'.*did you mean ebm"):
        command.sample("abm", storage=str(tmp_path))


@pytest.mark.slow
def test_a_broken_checkpoint_is_passed_over_and_said(
    trained: tuple[Path, Store], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source = trained[1]
    run = jobs.storage(tmp_path).below("ebm")
    for key in source.list():
        run.write(key, source.read(key))
    run.write("checkpoints/step-00000010.a1/weights.safetensors", b"torn")
    assert draw((tmp_path, run), steps=2).startswith("samples/step-00000005")
    assert "skipped step-00000010.a1: weights.safetensors has 4 bytes" in capsys.readouterr().err
    run.write("checkpoints/step-00000005.a1/weights.safetensors", b"torn")
    with pytest.raises(CheckpointError, match="none can be loaded"):
        command.sample("ebm", storage=str(tmp_path))


def test_curves_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = a_run(tmp_path, jobs.plan(jobs.LENET), {})
    command.curves("lenet", storage=str(tmp_path))
    assert capsys.readouterr().out == f"{tmp_path}/lenet/figures/curves.png\n"
    for key in run.list("journal"):
        run.write(key, b"")
    command.curves("lenet", storage=str(tmp_path))
    assert capsys.readouterr().out == "run lenet has no metrics yet\n"
