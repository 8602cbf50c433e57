"""Whether a run may start, by what its folder holds."""

from __future__ import annotations

import importlib.util
import itertools
import json
import socket
from pathlib import Path
from typing import Any

import pytest

import jobs
from lehr import journal, status
from lehr import store as stores
from lehr.chaos import pair
from lehr.errors import LaunchError, UserError
from lehr.launch import admission, local, train
from lehr.launch.admission import Standing
from lehr.store import Store


@pytest.fixture
def run(tmp_path: Path) -> Store:
    return stores.connect(str(tmp_path / "lenet"))


def commit(run: Store, step: int) -> None:
    run.write(f"checkpoints/step-{step:08d}.a1/manifest.json", b"{}")


def test_new_folder_is_a_new_run(run: Store) -> None:
    assert admission.standing(jobs.plan(jobs.LENET), run) == Standing(0, None, complete=False)


def test_run_continues_from_its_newest_committed_checkpoint(run: Store) -> None:
    plan = jobs.plan(jobs.LENET)
    admission.prepare(plan, run)
    journal.claim_attempt(run)
    commit(run, 4)
    run.write("checkpoints/step-00000008.a1/weights.safetensors", b"half a checkpoint")
    assert admission.standing(plan, run) == Standing(1, 4, complete=False)


def test_complete_run_is_complete_until_it_is_to_be_longer(run: Store) -> None:
    plan = jobs.plan(jobs.LENET)
    admission.prepare(plan, run)
    commit(run, 10)
    assert admission.standing(plan, run).complete
    assert not admission.standing(jobs.plan(jobs.LENET, "train.duration={steps: 20}"), run).complete


def test_other_settings_are_refused_with_the_difference(run: Store) -> None:
    admission.prepare(jobs.plan(jobs.LENET), run)
    commit(run, 4)
    with pytest.raises(UserError) as raised:
        admission.standing(jobs.plan(jobs.LENET, "train.seed=7", "recovery.max_failures=9"), run)
    said = str(raised.value)
    assert "train.seed: 0 -> 7" in said
    assert "max_failures" not in said
    assert "--run lenet-2" in said


def test_other_settings_may_replace_what_never_began(run: Store) -> None:
    admission.prepare(jobs.plan(jobs.LENET), run)
    assert admission.standing(jobs.plan(jobs.LENET, "train.seed=7"), run).attempts == 0


def test_what_is_prepared_can_be_read_again(run: Store) -> None:
    plan = jobs.plan(jobs.LENET)
    admission.prepare(plan, run)
    assert json.loads(run.read("plan.json")) == json.loads(json.dumps(plan.document()))
    assert b"kind: lenet" in run.read("spec.yaml")


class Watch:
    """A clock that moves when it is slept on, and a run whose pulse beats every `beat_s` of it."""

    def __init__(self, run: Store, beat_s: float | None) -> None:
        self.time, self._run, self._beat_s = 1000.0, run, beat_s
        self.said: list[str] = []
        self._write(995.0)

    def _write(self, time_s: float) -> None:
        document = {"status": "running", "step": 1, "steps": 10, "attempt": 1, "message": "", "time": time_s}
        self._run.write(status.KEY, json.dumps(document).encode())

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        if self._beat_s is not None and self.time >= 995.0 + self._beat_s:
            self._write(995.0 + self._beat_s)

    def refuse_second(self) -> None:
        admission.refuse_second(jobs.plan(jobs.LENET), self._run, say=self.said.append, sleep=self.sleep,
                                now=lambda: self.time)  # fmt: skip


def elsewhere(run: Store) -> None:
    run.write(admission.DRIVER, json.dumps({"host": "another", "pid": 1, "created": 0.0}).encode())


def test_run_that_beats_is_refused(run: Store) -> None:
    elsewhere(run)
    watch = Watch(run, beat_s=10.0)
    with pytest.raises(UserError, match="it is being trained right now"):
        watch.refuse_second()
    assert watch.time < 1010
    assert watch.said == ["run lenet gave a sign of life 5 s ago; looking for another ..."]


def test_run_whose_pulse_stops_is_taken_over(run: Store) -> None:
    elsewhere(run)
    watch = Watch(run, beat_s=None)
    watch.refuse_second()
    assert 1000 + 20 < watch.time < 1000 + 40


def test_driver_that_died_on_this_machine_is_not_waited_for(run: Store) -> None:
    driver = {"host": socket.gethostname(), "pid": 2**22 + 1, "created": 0.0}
    run.write(admission.DRIVER, json.dumps(driver).encode())
    watch = Watch(run, beat_s=10.0)
    watch.refuse_second()
    assert watch.time == 1000.0


def test_driver_that_lives_on_this_machine_is_refused_at_once(run: Store) -> None:
    admission.prepare(jobs.plan(jobs.LENET), run)  # this process
    with pytest.raises(UserError, match="it is being trained right now"):
        admission.refuse_second(jobs.plan(jobs.LENET), run, say=print)


@pytest.mark.parametrize("state", ["completed", "stopped", "failed", "diverged"])
def test_run_that_said_it_ended_is_not_waited_for(state: str, run: Store) -> None:
    elsewhere(run)
    status.write(run, status.Status(status=state, step=1, steps=10, attempt=1))
    slept = itertools.count()
    admission.refuse_second(jobs.plan(jobs.LENET), run, say=print, sleep=lambda _: next(slept))
    assert next(slept) == 0


def test_missing_horovod_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    admission.require(jobs.plan(jobs.LENET))
    with pytest.raises(
        LaunchError, match=r"strategy\.kind: horovod: Horovod is not installed here"
    ) as raised:
        admission.require(jobs.plan(jobs.LENET, "strategy={kind: horovod, workers: 2}"))
    assert "make setup" in str(raised.value)


@pytest.mark.parametrize("launch", [local.spawn, train.run])
def test_workers_in_other_processes_cannot_see_memory(launch: Any) -> None:
    with pytest.raises(UserError, match="memory://nowhere exists in one process only"):
        launch(jobs.plan(jobs.EBM), stores.connect("memory://nowhere"))


def test_sweeps_folder_is_no_place_for_a_run(run: Store) -> None:
    run.write("sweep.json", b"{}")
    with pytest.raises(UserError, match="holds a sweep") as refused:
        admission.standing(jobs.plan(jobs.LENET), run)
    assert "--run lenet-run" in str(refused.value)
    storage = stores.connect(run.url.rpartition("/")[0])
    with pytest.raises(UserError, match="holds a sweep"):
        pair.undisturbed(jobs.plan(jobs.LENET), storage, local=True, say=print)
    assert run.list("") == ["sweep.json"]
