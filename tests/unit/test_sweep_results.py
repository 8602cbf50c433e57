"""Tables of sweeps: what is in them, and that both files say the same."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pyarrow.parquet
import pytest

import told_sweeps
from lehr.spec.search import Range
from lehr.store import Store
from lehr.sweep import results
from lehr.sweep.program import Program
from lehr.sweep.records import History, Segment, Start, Trial

FIRST = [
    "trial",
    "outcome",
    "value",
    "best",
    "at",
    "steps",
    "segments",
    "run",
    "train_s",
    "wall_s",
    "message",
]


def told(tmp_path: Path, *sets: str, most: int | None = None) -> tuple[Program, History, Store]:
    wanted = told_sweeps.program(*sets)
    folder = told_sweeps.storage(tmp_path).below(wanted.run_id)
    return wanted, told_sweeps.tell(folder, wanted, most=most), folder


def read(folder: Store) -> tuple[list[results.Row], list[results.Row]]:
    """The rows of both files."""
    lines = [json.loads(line) for line in folder.read(results.LINES).decode().splitlines()]
    table = pyarrow.parquet.read_table(io.BytesIO(folder.read(results.PARQUET)))
    return lines, table.to_pylist()


@pytest.mark.parametrize("sets", [(), ("search.scheduler=none", "search.trials=30"), told_sweeps.PBT])
def test_both_files_say_the_same(tmp_path: Path, sets: tuple[str, ...]) -> None:
    wanted, history, folder = told(tmp_path, *sets)
    results.write(wanted, history, folder)
    lines, table = read(folder)
    assert lines == table
    assert [list(row) for row in lines] == [[*FIRST, *wanted.search.space]] * len(history.trials)
    assert [row["trial"] for row in lines] == list(range(1, wanted.trials + 1))
    for row in lines:
        trial = history.trials[row["trial"]]
        assert row["outcome"] == trial.last.outcome
        assert row["run"] == results.best_segment(trial, "min").start.run
        assert row["segments"] == len(trial.segments)
        assert row["train_s"] == pytest.approx(sum(one.train_s for one in trial.segments))
        given = results.best_segment(trial, "min").start.parameters
        assert {path: row[path] for path in given} == given
        values = [report.value for report in trial.reports()]
        assert row["value"] == (values[-1] if values else None)
        assert row["best"] == (None if trial.diverged else min(values))


def test_a_divergence_has_its_parameters_and_no_best_value(tmp_path: Path) -> None:
    wanted, history, folder = told(tmp_path, "search.scheduler=none", "search.trials=30")
    results.write(wanted, history, folder)
    diverged = [row for row in read(folder)[0] if row["outcome"] == "diverged"]
    assert diverged, "some step sizes are too large"
    for row in diverged:
        assert row["best"] is None
        assert row["sampler.step_size"] > 22
        assert "nan" in row["message"]
    ranked = results.ranking(history, "min")
    assert not any(trial.diverged for trial in ranked)
    values = [trial.best("min") or math.inf for trial in ranked]
    assert values == sorted(values)


def test_the_same_columns_before_there_is_a_trial(tmp_path: Path) -> None:
    wanted, history, _ = told(tmp_path)
    full = pyarrow.parquet.read_table(io.BytesIO(_parquet(wanted, history)))
    none = pyarrow.parquet.read_table(io.BytesIO(_parquet(wanted, History())))
    assert none.num_rows == 0
    assert none.schema == full.schema


def _parquet(wanted: Program, history: History) -> bytes:
    return results.parquet(results.rows(wanted, history), results.ranges(wanted))


def test_choices_without_a_type_in_common_are_json_in_parquet() -> None:
    mixed, empty = Range(choice=(1, "a")), Range(choice=(None, 1.0))
    wanted = told_sweeps.program()
    start = Start(1, 1, "finding-0001", {"x": 1, "y": None})
    history = History({1: Trial(1, [Segment(start, 9)])})
    [row] = results.rows(wanted, history)
    [kept] = pyarrow.parquet.read_table(
        io.BytesIO(results.parquet([row | {"x": "a", "y": None}], {"x": mixed, "y": empty}))
    ).to_pylist()
    assert (kept["x"], kept["y"]) == ('"a"', None)


def test_trials_that_run_are_rows_too(tmp_path: Path) -> None:
    wanted, history, folder = told(tmp_path, most=3)
    history.trials[3].last.outcome = None
    results.write(wanted, history, folder)
    assert [row["outcome"] for row in read(folder)[1]][-1] == results.RUNNING


def test_the_best_segment_is_the_one_that_said_the_best_value(tmp_path: Path) -> None:
    _, history, _ = told(tmp_path, *told_sweeps.PBT)
    several = [trial for trial in history.trials.values() if len(trial.segments) > 1]
    assert several
    for trial in several:
        best = results.best_segment(trial, "min")
        assert min(report.value for report in best.reports) == trial.best("min")


def test_a_row_has_the_parameters_and_the_run_of_its_best_value() -> None:
    path = "train.optimizer.learning_rate"
    [row] = results.rows(told_sweeps.program(*told_sweeps.PBT), told_sweeps.worsened(path, 1e-4, 1e-3))
    assert (row["best"], row[path], row["run"]) == (0.125, 1e-4, "pop-0001")
    assert (row["value"], row["outcome"], row["at"], row["segments"]) == (0.5, "completed", 27, 2)


def test_choices_of_mappings_are_json_in_parquet() -> None:
    given = Range(choice=({"kind": "a", "options": {}}, {"kind": "b", "size": 2}))
    inner = Range(choice=([{"x": 1}], [{"y": 1}]))
    history = told_sweeps.worsened("x", given.values[0], given.values[1])
    [row] = results.rows(told_sweeps.program(), history)
    table = results.parquet([row | {"x": given.values[0], "y": inner.values[1]}], {"x": given, "y": inner})
    [kept] = pyarrow.parquet.read_table(io.BytesIO(table)).to_pylist()
    assert (json.loads(kept["x"]), json.loads(kept["y"])) == (given.values[0], [{"y": 1}])
