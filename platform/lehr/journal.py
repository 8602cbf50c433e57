"""The run's diary: one file an attempt, one JSON object a line. W&B, plots and reports are replays of it.

A line is {"type": "start" | "metrics" | "event" | "end", "time", "attempt", "step", ...}. Metrics carry
"values" {name: number}, events "event" and their fields, a start "from_step" (also its step), an end
"outcome". JSON has no word for numbers that are not finite: they are written as "nan", "inf" and "-inf", and
read back as numbers in "values".

    claim_attempt(store) -> int               the number of the next attempt; nobody else gets it
    Journal(store, attempt)                   writes it
    read(store), read_attempt(store, n), tail(store, n)
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lehr.store import Store

Entry = dict[str, Any]
TAIL_BYTES = 64 << 10
EVENT_PATIENCE_S = 2.0  # that the caller of `event` waits for it to be stored
CLOSE_PATIENCE_S = 10.0  # with a store that fails while the last entries are to be stored
_FILE = re.compile(r"journal/attempt-(\d+)\.jsonl")
_HEAD = {"type", "time", "attempt", "step"}
_FIELDS = {
    "start": _HEAD | {"from_step"},
    "metrics": _HEAD | {"values"},
    "event": _HEAD | {"event"},
    "end": _HEAD | {"outcome"},
}
_NAMES = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def key(attempt: int) -> str:
    """Where the journal of an attempt is, below its run."""
    return f"journal/attempt-{attempt:04d}.jsonl"


def attempts(store: Store) -> list[int]:
    """Numbers of all attempts at the run, ascending."""
    found = (_FILE.fullmatch(name) for name in store.list("journal"))
    return sorted(int(match[1]) for match in found if match)


def latest_attempt(store: Store) -> int:
    """The number of the run's last attempt; 0 before the first."""
    return max(attempts(store), default=0)


def claim_attempt(store: Store) -> int:
    """Become the run's next attempt: of several who try, each gets another number."""
    number = latest_attempt(store) + 1
    while not store.create(key(number), b""):
        number += 1
    return number


def encode(value: Any) -> Any:
    """`value` as JSON has it: NumPy's scalars and arrays become Python's, infinities and NaN their names."""
    if isinstance(value, Mapping):
        return {str(name): encode(item) for name, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if hasattr(value, "tolist"):
        return encode(value.tolist())
    return [encode(item) for item in value] if isinstance(value, Iterable) else str(value)


def numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """{name: number} as `encode` wrote it, with the names of numbers that are not finite read back."""
    return {name: _NAMES.get(item, item) if isinstance(item, str) else item for name, item in values.items()}


class Journal:
    """Writes one attempt's file, from a thread of its own: a slow or failing store never holds up training.

    What could not be stored is kept and tried again with what comes next; `problem` is the last error until
    then. Thread-safe.

    Args:
        store: the run's folder.
        attempt: the attempt's number, as `claim_attempt` gave it.
        flush_s: how long an entry may wait for others to be stored with. Events do not wait.
        clock: seconds since 1970, for the entries.
    """

    def __init__(
        self, store: Store, attempt: int, *, flush_s: float = 2.0, clock: Callable[[], float] = time.time
    ) -> None:
        self.problem: Exception | None = None
        self._store, self._attempt, self._flush_s, self._clock = store, attempt, flush_s, clock
        self._pending: list[bytes] = []
        self._asked = self._tried = 0  # flushes wanted, and flushes over
        self._open, self._late = True, False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="lehr-journal", daemon=True)
        self._thread.start()

    def start(self, from_step: int, **fields: Any) -> Entry:
        """The attempt begins from the state at `from_step`."""
        return self._event({"type": "start", "step": from_step, "from_step": from_step, **fields})

    def metrics(self, step: int, values: Mapping[str, Any]) -> Entry:
        """Numbers by name at `step`."""
        return self._add({"type": "metrics", "step": step, "values": dict(values)})

    def event(self, event: str, step: int | None = None, **fields: Any) -> Entry:
        """Something that happened; stored at once."""
        return self._event({"type": "event", "step": step, "event": event, **fields})

    def end(self, step: int, outcome: str) -> Entry:
        """The attempt ended at `step`, in its own words."""
        return self._event({"type": "end", "step": step, "outcome": outcome})

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until everything said before was tried to be stored; whether it is stored."""
        with self._changed:
            self._asked += 1
            mine = self._asked
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: self._tried >= mine or not self._open, timeout_s)
            return done and self.problem is None and not self._pending

    def close(self, patience_s: float = CLOSE_PATIENCE_S) -> None:
        """Store the rest and end. A store that fails for so long loses it; `problem` says why."""
        until, pause_s = time.monotonic() + patience_s, 0.05
        while not self.flush(patience_s) and time.monotonic() < until:
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 1.0)
        with self._changed:
            self._open = False
            self._changed.notify_all()
        self._thread.join(patience_s)

    def _event(self, fields: Entry) -> Entry:
        entry = self._add(fields)
        # A store that is known to fail, or to hang, is not waited for: training goes on.
        self._late = not self.flush(0.0 if self.problem or self._late else EVENT_PATIENCE_S)
        return entry

    def _add(self, fields: Entry) -> Entry:
        head = {"type": fields["type"], "time": self._clock(), "attempt": self._attempt}
        entry: Entry = encode(head | {"step": fields["step"]} | fields | head)  # the head's order and values
        line = json.dumps(entry, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        with self._changed:
            self._pending.append(line.encode() + b"\n")
            self._changed.notify_all()
        return _decoded(entry)  # what a reader will see

    def _run(self) -> None:
        while self._open:
            with self._changed:
                self._changed.wait_for(lambda: self._asked > self._tried or not self._open, self._flush_s)
                asked, lines = self._asked, list(self._pending)
            self._store_lines(lines)
            with self._changed:
                self._tried = asked
                self._changed.notify_all()

    def _store_lines(self, lines: list[bytes]) -> None:
        if not lines:
            return
        # A line torn by the failure before must not swallow the first of these.
        begin = b"\n" if self.problem else b""
        try:
            self._store.append(key(self._attempt), begin + b"".join(lines))
        except Exception as error:  # whatever it is, it must not end the thread
            self.problem = error
            return
        with self._changed:
            del self._pending[: len(lines)]
            self.problem, self._late = None, False


def read(store: Store) -> list[Entry]:
    """All attempts as one story: one that started from step s replaces what earlier ones said after s."""
    story: list[Entry] = []
    for number in attempts(store):
        entries = read_attempt(store, number)
        begins = next((entry["from_step"] for entry in entries if entry["type"] == "start"), None)
        if begins is not None:
            story = [entry for entry in story if entry["step"] is None or entry["step"] <= begins]
        story += entries
    return story


def read_attempt(store: Store, attempt: int) -> list[Entry]:
    """The entries of one attempt, in order.

    A line torn by a kill is left out. A line that was sent again, because whether it had arrived was unknown,
    counts once.
    """
    return _entries(store.read(key(attempt)))


def tail(store: Store, attempt: int, *, limit: int = TAIL_BYTES) -> list[Entry]:
    """The last entries of an attempt: those whole within the last `limit` bytes of its file."""
    size = store.size(key(attempt)) or 0
    if size <= limit:
        return read_attempt(store, attempt) if size else []
    return _entries(store.read(key(attempt), size - limit).partition(b"\n")[2])


def _entries(data: bytes) -> list[Entry]:
    lines = dict.fromkeys(data.split(b"\n"))  # the order stays, repeated lines go
    return [entry for line in lines if line and (entry := _entry(line)) is not None]


def _entry(line: bytes) -> Entry | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    wanted = _FIELDS.get(str(entry.get("type"))) if isinstance(entry, dict) else None
    if wanted is None or not wanted <= entry.keys():
        return None
    return _decoded(entry)


def _decoded(entry: Entry) -> Entry:
    return entry | {"values": numbers(entry["values"])} if entry["type"] == "metrics" else entry
