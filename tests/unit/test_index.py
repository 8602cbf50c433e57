"""The index of runs: what is told comes back, from names of keys alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FailingStore, MemoryStore
from lehr import index
from lehr.cli import stored
from lehr.index import Summary, Writer
from lehr.status import Status
from lehr.store import connect

SUMMARY = Summary("running", 40, 900, 2, 1795208568.123, "step-00000040.a2", ("validation/loss", 0.0251234))


def said(status: str = "running", step: int = 1, attempt: int = 1, time: float = 1e9) -> Status:
    return Status(status, step, 9, attempt, time=time)


def test_a_summary_is_a_name_that_is_safe_everywhere() -> None:
    name = SUMMARY.name
    assert re.fullmatch(r"[A-Za-z0-9.!_-]+", name)
    assert index.parse(name) == Summary("running", 40, 900, 2, 1795208568.123, "step-00000040.a2",
                                        ("validation/loss", 0.0251234))  # fmt: skip


@given(st.text(min_size=1, max_size=300), st.floats(allow_nan=False), st.text(max_size=12))
def test_whatever_is_told_is_a_name_and_comes_back(metric: str, value: float, status: str) -> None:
    told = Summary(status, 10**9, 10**9, 9999, 1e9, "step-1000000000.a9999", (metric, value))
    name = told.name
    assert len(name.encode()) <= 255
    assert re.fullmatch(r"[A-Za-z0-9.!_-]+", name)
    back = index.parse(name)
    assert back is not None
    assert (back.status, back.step, back.checkpoint) == (status, 10**9, "step-1000000000.a9999")
    if back.metric is not None:
        assert back.metric[0] == metric
        assert back.metric[1] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("name", ["", "x", "a_b_c_d_e_f_g_h", "1_2_3", SUMMARY.name + "_x", "1__1_1_1___!ff"])
def test_what_is_no_summary_is_passed_over(name: str) -> None:
    place = MemoryStore()
    place.write(f"{index.ROOT}/a/{name or '.'}", b"")
    place.write(f"{index.ROOT}/{SUMMARY.name}", b"")
    assert index.parse(name) is None
    assert "a" not in index.read(place)


def test_of_two_entries_the_newer_attempt_counts_and_then_the_newer_time() -> None:
    place = MemoryStore()
    for attempt, time, step in ((1, 900.0, 5), (2, 100.0, 6), (2, 101.0, 7)):
        place.write(f"{index.ROOT}/a/{Summary('running', step, 9, attempt, time).name}", b"")
    assert index.read(place)["a"].step == 7


def test_a_writer_leaves_one_entry_at_a_bounded_rate() -> None:
    clock = [0.0]
    place = FailingStore(MemoryStore(), lambda number: False)
    writer = Writer(place, "a", now=lambda: clock[0])
    for second in range(100):
        clock[0] = float(second)
        writer.tell(said(step=second, time=1e9 + second), checkpoint="step-00000001.a1")
        assert len(place.list(index.ROOT)) == 1
    writes = [change for change in place.changes if change.startswith("write")]
    assert len(writes) == 4
    assert index.read(place)["a"].step == 90
    writer.tell(said("completed", 99, time=2e9), checkpoint="step-00000002.a1", metric=("train/loss", 1.0))
    assert index.read(place) == {
        "a": Summary("completed", 99, 9, 1, 2e9, "step-00000002.a1", ("train/loss", 1.0))
    }
    assert all(data == b"" for data in place.store.objects.values())  # type: ignore[attr-defined]


@pytest.mark.parametrize("after", [False, True], ids=["refused", "answer lost"])
@pytest.mark.parametrize("failing", range(1, 8))
def test_a_failing_store_leaves_one_entry_in_the_end(failing: int, after: bool) -> None:
    inner = MemoryStore()
    place = FailingStore(inner, lambda number: number == failing, after=after)
    writer = Writer(place, "a", period_s=1e-9)
    for step in range(10):
        writer.tell(said(step=step, time=1e9 + step))
        told = index.read(inner).get("a")
        assert told is None or told.step in (step, step - 1)
    assert len(inner.list(index.ROOT)) == 1
    assert index.read(inner)["a"].step == 9


def test_what_a_crash_left_is_removed_by_the_next_attempt() -> None:
    place = MemoryStore()
    for step in (1, 2):
        place.write(f"{index.ROOT}/a/{Summary('running', step, 9, 1, 1e9 + step).name}", b"")
    place.write(f"{index.ROOT}/other/{SUMMARY.name}", b"")
    Writer(place, "a").tell(said("starting", 0, attempt=2))
    assert len(place.list(f"{index.ROOT}/a")) == 1
    assert index.read(place)["a"].attempt == 2
    assert "other" in index.read(place)


def test_the_index_is_no_run_and_tells_of_none_that_is_gone(tmp_path: Path) -> None:
    place = connect(str(tmp_path))
    place.below("a").write("plan.json", b"{")
    place.below("b").write("journal/attempt-0001.jsonl", b"")
    for run in ("a", "gone"):
        Writer(place, run).tell(
            said("completed", 3, 2), checkpoint="step-00000003.a2", metric=("train/loss", 0.5)
        )
    found = stored.runs(place)
    assert [run.name for run in found] == ["a", "b"]
    assert stored.rows(found)[1][:6] == ("a", "completed", "3/9", "2", "train/loss 0.5", "step-00000003.a2")


def test_an_entry_that_is_too_old_to_be_true_is_not_believed(tmp_path: Path) -> None:
    from lehr import status

    place = connect(str(tmp_path))
    Writer(place, "a").tell(said("running", 3))
    status.write(place.below("a"), status.Status(status="completed", step=9, steps=9, attempt=1))
    [run] = stored.runs(place)
    assert (stored.state(run), stored.progress(run)) == ("completed", "9/9")


def test_the_telling_metric_is_the_one_that_picks_checkpoints() -> None:
    values = {"rate/x": 1.0, "train/loss": 2.0, "validation/accuracy": 3.0}
    assert index.telling(values) == ("train/loss", 2.0)
    assert index.telling(values, "validation/accuracy") == ("validation/accuracy", 3.0)
    assert index.telling(values, "validation/none") == ("train/loss", 2.0)
    assert index.telling({"rate/x": 1.0}) is None
