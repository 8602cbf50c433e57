"""From the journal to the rows that W&B shows. Pure: the same journal gives the same rows, in the same order.

A row has the number i that W&B calls its `_step`; so a tracker that knows how many rows W&B has knows which
ones it lacks, and row i is the same whoever sends it: rank 0 live, a later attempt, or `lehr track sync`.

The identity of a point is (step, name), and here the first one stays. A later attempt goes back to a
checkpoint and does steps again; those points are equal, by determinism, and W&B cannot take back what it has,
so they are not sent twice. (`journal.read` keeps the last instead: it tells the story of the attempt that led
to the result, with the times of that attempt. A point is the same in both, times and rates apart.)
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lehr import journal
from lehr.journal import Entry
from lehr.store import Store


@dataclass(frozen=True)
class Row:
    """One row of W&B's history.

    Args:
        number: from 0; W&B's own `_step`.
        step: of the run; the x axis of every chart.
        values: numbers by name.
        pictures: the key of a PNG file in the run's folder, by name.
    """

    number: int
    step: int
    values: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, str] = field(default_factory=dict)


class Stream:
    """Takes the entries of all attempts in order, and gives the rows. An entry taken again gives none.

    Keeps 8 bytes for each row: the steps at which the same names were seen, sorted.

    Attributes:
        count: of the rows so far.
    """

    def __init__(self) -> None:
        self.count = 0
        self._seen: dict[frozenset[str], array[int]] = {}

    def take(self, entry: Entry) -> Row | None:
        """The row that an entry adds, if it has a point that no earlier one had."""
        step, values, pictures = entry["step"], _values(entry), _pictures(entry)
        if step is None or not (fresh := self._fresh(step, frozenset((*values, *pictures)))):
            return None
        self.count += 1
        return Row(self.count - 1, step, _only(fresh, values), _only(fresh, pictures))

    def _fresh(self, step: int, names: frozenset[str]) -> frozenset[str]:
        """Those of the names that were not seen at that step; from now on they were."""
        for group, steps in self._seen.items():
            if not names.isdisjoint(group) and _holds(steps, step):
                names -= group
        if names:
            _insert(self._seen.setdefault(names, array("q")), step)
        return names


def rows(entries: Iterable[Entry]) -> Iterator[Row]:
    """All rows of a run from the entries of all its attempts."""
    stream = Stream()
    return (row for entry in entries if (row := stream.take(entry)) is not None)


def entries(run: Store, *, until: int | None = None) -> Iterator[Entry]:
    """The entries of all attempts in order, of those up to attempt `until`.

    Raises:
        StorageError: the store does not answer.
    """
    for life in journal.lives(run, until=until):
        yield from life


def _values(entry: Entry) -> Mapping[str, Any]:
    return entry["values"] if entry["type"] == "metrics" else {}


def _pictures(entry: Entry) -> Mapping[str, str]:
    """Keys of the pictures that an event tells of."""
    if entry["type"] != "event" or entry["event"] != "samples":
        return {}
    return {f"samples/{name}": f"{entry['folder']}/{name}.png" for name in entry.get("pictures", ())}


def _only(names: frozenset[str], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in names}


def _holds(steps: array[int], step: int) -> bool:
    at = bisect_left(steps, step)
    return at < len(steps) and steps[at] == step


def _insert(steps: array[int], step: int) -> None:
    """Mostly at the end: steps ascend within an attempt."""
    steps.insert(bisect_left(steps, step), step)
