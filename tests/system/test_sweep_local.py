"""Sweeps without Ray: real trials in the driver's own process, and in processes of their own."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jobs
from lehr import journal, spec, status
from lehr.checkpoint import State
from lehr.launch import local
from lehr.plan import Plan
from lehr.store import Store
from lehr.sweep import program as programs
from lehr.sweep.records import History, Trial

pytestmark = [pytest.mark.system, pytest.mark.slow]

PATIENCE_S = 240.0
ABSURD = 1e12
GRID = """
validation: {every: {steps: 4}}
search:
  space: {train.optimizer.learning_rate: {choice: [0.05, 1.0e+12, 0.1, 0.2]}}
  algorithm: grid
  metric: validation/loss
"""
POPULATION = """
validation: {every: {steps: 3}}
search:
  space: {train.optimizer.learning_rate: {log: [1.0e-5, 1.0]}}
  algorithm: random
  scheduler: pbt
  grace: {steps: 3}
  quantile: 0.5
  metric: validation/loss
  trials: 4
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "job.yaml"
    file.write_text(text)
    return file


class Driver:
    """`lehr sweep FILE --local` in a process of its own. A context manager, so that none is left behind."""

    def __init__(self, file: Path, storage: Path, *sets: str) -> None:
        words = ["--local", "--storage", str(storage)]
        words += [word for given in sets for word in ("--set", given)]
        self.said = file.with_name("driver.txt")
        with self.said.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lehr", "sweep", str(file), *words],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()

    def code(self) -> int:
        return self.process.wait(PATIENCE_S)


def swept(file: Path, storage: Path, *sets: str) -> None:
    with Driver(file, storage, *sets) as driver:
        assert driver.code() == 0, driver.said.read_text()


def history(storage: Path, name: str) -> History:
    return History.read(journal.read(jobs.storage(storage).below(name)))


def until(condition: Any) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def steps_done(storage: Path) -> int:
    """Steps of all trials, as far as their journals have them."""
    files = storage.glob("*/trials/*/journal/*.jsonl")
    return sum(file.read_text().count('"metrics"') for file in files)


# --- a driver that is killed again and again ------------------------------------------------------------


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage of a grid of four whose driver was killed three times, and which was then left alone."""
    folder = tmp_path_factory.mktemp("killed")
    file, storage = write(folder, jobs.LENET + GRID), folder / "runs"
    chance = random.Random(5)
    for _ in range(3):
        before = steps_done(storage)
        with Driver(file, storage, "train.duration={steps: 24}") as driver:
            until(lambda: driver.process.poll() is not None or steps_done(storage) > before)  # noqa: B023
            time.sleep(chance.uniform(0.0, 0.4))
            driver.process.send_signal(signal.SIGKILL)
    swept(file, storage, "train.duration={steps: 24}")
    return storage


def trials(storage: Path, name: str = "lenet") -> list[Trial]:
    found = history(storage, name).trials
    return [found[number] for number in sorted(found)]


def rate(trial: Trial) -> float:
    return float(trial.parameters["train.optimizer.learning_rate"])


def test_killed_driver_loses_nothing_and_does_nothing_twice(killed: Path) -> None:
    found = trials(killed)
    assert [rate(trial) for trial in found] == [0.05, ABSURD, 0.1, 0.2]
    outcomes = [trial.last.outcome for trial in found]
    assert outcomes == ["completed", "diverged", "completed", "completed"]
    entries = journal.read(jobs.storage(killed).below("lenet"))
    ends = [entry["run"] for entry in entries if entry.get("event") == "ended"]
    assert sorted(ends) == [f"lenet-{number:04d}" for number in range(1, 5)]
    good = [trial for trial in found if rate(trial) != ABSURD]
    assert all([report.at for report in trial.reports()] == [4, 8, 12, 16, 20, 24] for trial in good)
    assert len(journal.attempts(jobs.storage(killed).below("lenet"))) == 4


def test_trial_in_a_used_process_is_bitwise_one_in_a_fresh_process(killed: Path, tmp_path: Path) -> None:
    job = spec.parse(jobs.LENET + GRID, sets=["train.duration={steps: 24}"])
    last = trials(killed)[-1]
    plan = programs.make(job).plan(last.last.start)
    fresh = jobs.storage(tmp_path)
    prepared(plan, fresh)
    assert local.spawn(plan, fresh).status == "completed"
    _, ours = jobs.final(jobs.storage(killed).below(f"lenet/trials/{plan.run_id}"))
    _, theirs = jobs.final(fresh.below(plan.run_id))
    same(ours, theirs)
    assert last.last.reports[-1].value == jobs.story(fresh.below(plan.run_id))[-1][1]["validation/loss"]


def prepared(plan: Plan, storage: Store) -> None:
    from lehr.launch import admission

    admission.prepare(plan, storage.below(plan.run_id))


def same(ours: State, theirs: State) -> None:
    assert ours.weights.keys() == theirs.weights.keys()
    for name, array in ours.weights.items():
        np.testing.assert_array_equal(array, theirs.weights[name], err_msg=name)
    assert ours.optimizer.keys() == theirs.optimizer.keys()


def test_divergence_is_a_result_with_its_parameters(killed: Path) -> None:
    [diverged] = [trial for trial in trials(killed) if trial.diverged]
    assert rate(diverged) == ABSURD
    assert diverged.best("min") == float("inf")
    assert diverged.last.message
    run = jobs.storage(killed).below(f"lenet/trials/{diverged.last.start.run}")
    said = status.read(run)
    assert said is not None
    assert said.status == "diverged"


def test_results_are_rows_of_all_trials(killed: Path) -> None:
    rows = [json.loads(line) for line in (killed / "lenet/results.jsonl").read_text().splitlines()]
    assert [row["outcome"] for row in rows] == ["completed", "diverged", "completed", "completed"]
    assert all(row["train_s"] > 0 for row in rows if row["outcome"] == "completed")
    assert (killed / "lenet/results.parquet").stat().st_size > 0


# --- a sweep that is stopped, and one of a population ------------------------------------------------------


def test_signal_stops_a_sweep_with_a_checkpoint_and_it_goes_on(tmp_path: Path) -> None:
    file, storage = write(tmp_path, jobs.LENET + GRID), tmp_path / "runs"
    sets = ("train.duration={steps: 4000}", "search.space={train.optimizer.learning_rate: {choice: [0.05]}}")
    with Driver(file, storage, *sets) as driver:
        until(lambda: driver.process.poll() is not None or steps_done(storage) > 20)
        driver.process.send_signal(signal.SIGTERM)
        assert driver.code() == 128 + signal.SIGTERM, driver.said.read_text()
    [trial] = trials(storage)
    assert trial.last.outcome == "interrupted"
    manifest, _ = jobs.final(jobs.storage(storage).below("lenet/trials/lenet-0001"))
    assert 20 < manifest.step < 4000
    assert manifest.step == trial.last.at
    said = status.read(jobs.storage(storage).below("lenet"))
    assert said is not None
    assert said.status == "stopped"


def test_population_copies_state_and_goes_on_from_there(tmp_path: Path) -> None:
    text = jobs.LENET.replace(
        "checkpoint: {every: {steps: 5}}", "checkpoint: {every: {steps: 3}, keep_last: 1}"
    )
    file, storage = write(tmp_path, text + POPULATION), tmp_path / "runs"
    swept(file, storage, "train.duration={steps: 12}")
    found = trials(storage)
    assert all(trial.over for trial in found)
    copies = [segment for trial in found for segment in trial.segments if segment.start.source is not None]
    assert copies
    for copy in copies:
        assert copy.start.source is not None
        run = jobs.storage(storage).below(f"lenet/trials/{copy.start.run}")
        begins = [e["from_step"] for e in journal.read(run) if e["type"] == "start"]
        assert begins == [copy.start.source.step]
        assert copy.reports[0].at > copy.start.source.step


def test_trials_of_several_workers_are_processes_of_this_machine(tmp_path: Path) -> None:
    file, storage = write(tmp_path, jobs.LENET + GRID), tmp_path / "runs"
    swept(file, storage, "strategy={kind: horovod, workers: 2}",
          "search.space={train.optimizer.learning_rate: {choice: [0.05, 1.0e+12]}}")  # fmt: skip
    assert [trial.last.outcome for trial in trials(storage)] == ["completed", "diverged"]
    run = jobs.storage(storage).below("lenet/trials/lenet-0001")
    starts = [entry for entry in journal.read(run) if entry["type"] == "start"]
    assert starts[0]["workers"] == 2
