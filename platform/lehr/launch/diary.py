"""What a run's journal in storage says to who listens from outside while it is written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from lehr import journal
from lehr.errors import StorageError
from lehr.store import Store, growing


@dataclass(frozen=True)
class Heard:
    """Numbers that a run journalled; plain, so that they may travel as JSON.

    Args:
        step: of the run.
        values: by name, such as `train/loss`.
    """

    step: int
    values: dict[str, float]


class Diary:
    """Reads the journal of a run once a call, and only what is new, of all attempts.

    Args:
        run: the run's folder.

    Attributes:
        end: how the newest attempt ended: the word of its journal ("" while it has none), the step, and why.
    """

    def __init__(self, run: Store) -> None:
        self._run = run
        self._attempt, self._offset = 0, 0
        self._found: list[Heard] = []  # read before the storage failed in the middle of a call
        self.end = ("", 0, "")

    def new(self) -> list[Heard]:
        """The metrics that were stored since the last call, in order.

        Raises:
            StorageError: they cannot be read now; the next call brings them.
        """
        for entry in self._entries():
            self._look(entry)
            if entry.get("type") == "metrics":
                self._found.append(Heard(int(entry["step"]), journal.numbers(entry["values"])))
        found, self._found = self._found, []
        return found

    def _look(self, entry: dict[str, Any]) -> None:
        kind = entry.get("type")
        if kind == "end":
            self.end = (str(entry["outcome"]), int(entry["step"]), self.end[2])
        elif kind == "event" and entry.get("event") == "diverged":
            self.end = ("", 0, str(entry.get("message", "")))
        elif kind in ("claim", "start"):
            self.end = ("", 0, "")

    def _entries(self) -> Iterator[dict[str, Any]]:
        for number in (one for one in journal.attempts(self._run) if one >= self._attempt):
            if number != self._attempt:
                self._attempt, self._offset = number, 0
            data = growing.read(self._run, journal.key(number), self._offset)
            whole = data[: data.rfind(b"\n") + 1]  # the last line may be half written
            self._offset += len(whole)
            yield from _parsed(whole.splitlines())


def _parsed(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # torn by a crash
        if isinstance(entry, dict):
            yield entry


def trained_s(run: Store) -> float:
    """Seconds that a run has trained, in all its attempts: what was done twice counts twice.

    The time between two entries has everything in it that came between, such as validations. 0 while the
    journal cannot be read: an end is said all the same.
    """
    try:
        return sum(_life_s(entries) for entries in journal.lives(run))
    except StorageError:
        return 0.0


def _life_s(entries: Iterable[journal.Entry]) -> float:
    seconds, before = 0.0, 0
    for entry in entries:
        if entry["type"] == "start":
            before = entry["from_step"]
        elif entry["type"] == "metrics" and "time/step_s" in entry["values"]:
            seconds += entry["values"]["time/step_s"] * (entry["step"] - before)
            before = entry["step"]
    return float(seconds)
