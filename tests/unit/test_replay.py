"""The journal's points become W&B's rows: all of them, each once, in an order that what comes later keeps."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fakes import MemoryStore
from lehr import journal
from lehr.tracking import replay
from lehr.tracking.replay import Row, Stream

NAMES = ["train/loss", "train/energy", "time/step_s", "validation/loss"]


def point(step: int, name: str) -> float:
    """What training gives: a function of step and name, whatever the attempt."""
    return step + NAMES.index(name) / 10


def attempt(
    number: int, start: int, length: int, every: int, score: int, sample: int
) -> list[dict[str, Any]]:
    """The entries of one life, with its own cadences."""
    head = {"time": 0.0, "attempt": number}
    said: list[dict[str, Any]] = [{"type": "start", "step": start, "from_step": start, **head}]
    for step in range(start + 1, start + length + 1):
        if step % every == 0:
            values = {name: point(step, name) for name in NAMES[:3]}
            said.append({"type": "metrics", "step": step, "values": values, **head})
        if step % score == 0:
            values = {
                name: point(step, name) for name in NAMES[-1:] + NAMES[:1]
            }  # one name of the others, too
            said.append({"type": "metrics", "step": step, "values": values, **head})
        if step % sample == 0:
            told = {"folder": f"samples/step-{step:08d}", "pictures": ["grid", "strip"]}
            said.append({"type": "event", "event": "samples", "step": step, **told, **head})
    return [*said, {"type": "event", "event": "note", "step": None, **head}]


CADENCE = st.integers(1, 7)


@st.composite
def runs(draw: st.DrawFn) -> MemoryStore:
    """A run's journal: attempts that begin where an earlier one was, each cut anywhere in its file."""
    store, reached = MemoryStore(), 0
    for number in range(1, draw(st.integers(1, 5)) + 1):
        start, length = draw(st.integers(0, reached)), draw(st.integers(0, 25))
        entries = attempt(number, start, length, draw(CADENCE), draw(CADENCE), draw(CADENCE))
        lines = b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)
        cut = draw(st.integers(0, len(lines)))
        store.objects[journal.key(number)] = draw(st.sampled_from([lines, lines[:cut]]))
        reached = max(reached, start + length)
    return store


def points(entries: list[dict[str, Any]]) -> set[tuple[int, str]]:
    """All that the entries say."""
    said = {(e["step"], name) for e in entries if e["type"] == "metrics" for name in e["values"]}
    drawn = [e for e in entries if e.get("event") == "samples"]
    return said | {(e["step"], f"samples/{name}") for e in drawn for name in e["pictures"]}


@given(runs())
def test_every_point_is_in_one_row(store: MemoryStore) -> None:
    entries = list(replay.entries(store))
    rows = list(replay.rows(entries))
    found = [(row.step, name) for row in rows for name in (*row.values, *row.pictures)]
    assert len(found) == len(set(found))
    assert set(found) == points(entries)
    assert [row.number for row in rows] == list(range(len(rows)))
    assert all(value == point(row.step, name) for row in rows for name, value in row.values.items())
    assert all(row.values or row.pictures for row in rows)


@given(runs(), st.data())
def test_rows_of_a_beginning_are_the_first_rows(store: MemoryStore, data: st.DataObject) -> None:
    rows = list(replay.rows(replay.entries(store)))
    last = journal.latest_attempt(store)
    whole = store.objects[journal.key(last)]
    store.objects[journal.key(last)] = whole[: data.draw(st.integers(0, len(whole)))]
    before = list(replay.rows(replay.entries(store)))
    assert before == rows[: len(before)]
    if last > 1:
        early = list(replay.rows(replay.entries(store, until=last - 1)))
        assert early == rows[: len(early)]


@given(runs(), st.data())
def test_what_is_taken_again_gives_nothing(store: MemoryStore, data: st.DataObject) -> None:
    entries = list(replay.entries(store))
    stream = Stream()
    rows = [row for entry in entries if (row := stream.take(entry))]
    at = data.draw(st.integers(0, len(entries)))
    assert [row for entry in entries[at:] if (row := stream.take(entry))] == []  # noqa: RUF018
    assert stream.count == len(rows)


def test_the_first_run_of_a_step_stands() -> None:
    head = {"type": "metrics", "time": 0.0}
    first = {**head, "attempt": 1, "step": 3, "values": {"train/loss": 1.0, "time/step_s": 0.5}}
    again = {**head, "attempt": 2, "step": 3, "values": {"train/loss": 1.0, "time/step_s": 9.0, "new": 2.0}}
    assert list(replay.rows([first, again])) == [
        Row(0, 3, {"train/loss": 1.0, "time/step_s": 0.5}),
        Row(1, 3, {"new": 2.0}),
    ]


def test_pictures_are_named_by_their_key() -> None:
    head = {"type": "event", "event": "samples", "time": 0.0, "attempt": 1, "step": 4}
    told = {**head, "folder": "samples/step-00000004", "pictures": ["grid"]}
    assert list(replay.rows([head | {"folder": "f"}, told])) == [
        Row(0, 4, {}, {"samples/grid": "samples/step-00000004/grid.png"})
    ]
