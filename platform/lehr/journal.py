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
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from lehr.errors import Superseded
from lehr.store import Store, growing
from lehr.store.growing import Growing

Entry = dict[str, Any]
TAIL_BYTES = 64 << 10
FLUSH_S = 2.0  # that metrics wait for others to be stored with, where keys are files
REMOTE_FLUSH_S = 5.0  # the same elsewhere, where a flush sends up to a segment
REMOTE_EVENT_S = 1.0  # between two events that are stored each for itself there
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
    """Become the run's next attempt: of several who try, each gets another number.

    A claim is signed, so that one whose answer was lost is known again.
    """
    number = latest_attempt(store) + 1
    line = json.dumps({"type": "claim", "by": uuid.uuid4().hex}).encode() + b"\n"
    while not store.create(key(number), line):
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


class Gate(Protocol):
    """What `lehr.fence.Fence` is."""

    def check(self) -> None:
        """Raise Superseded when a later attempt has begun."""
        ...


class Journal:
    """Writes one attempt's file, from a thread of its own: a slow or failing store never holds up training.

    What could not be stored is kept, in memory (its lines: some 300 bytes an entry, so 5 MB for half an hour
    of ten a second, and 260 MB for a day), and tried again with what comes next; `problem` is the last error
    until then. Thread-safe.

    Args:
        store: the run's folder.
        attempt: the attempt's number, as `claim_attempt` gave it.
        flush_s: how long an entry may wait for others to be stored with; by default as the store needs it.
            Events do not wait, except for a second after another write where keys are no files.
        clock: seconds since 1970, for the entries.
        on_stored: told of entries, in order, each once, when the store has them; by the journal's thread.
        fence: asked before anything is stored; once a later attempt has begun, nothing is any more.
    """

    def __init__(
        self, store: Store, attempt: int, *, flush_s: float | None = None,
        clock: Callable[[], float] = time.time,
        on_stored: Callable[[list[Entry]], None] | None = None, fence: Gate | None = None,
    ) -> None:  # fmt: skip
        self.problem: Exception | None = None
        self._on_stored, self._fence = on_stored, fence
        self._store, self._attempt, self._clock = store, attempt, clock
        self._text = Growing(store, key(attempt))
        self._is_file = store.local_path(key(attempt)) is not None
        self._flush_s = flush_s or (FLUSH_S if self._is_file else REMOTE_FLUSH_S)
        self._pending: list[bytes] = []
        self._asked = self._tried = 0  # flushes wanted, and flushes over
        self._said = self._stored = 0  # entries
        self._stored_at, self._due = -math.inf, math.inf  # the last write; the one that an event waits for
        self._open, self._late, self._has_complained = True, False, False
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
            mine, said = self._asked, self._said
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: self._tried >= mine or not self._open, timeout_s)
            return done and self._stored >= said

    def close(self, patience_s: float = CLOSE_PATIENCE_S) -> None:
        """Store the rest and end. A store that fails for so long loses it; `problem` says why.

        Once a later attempt has begun, it returns at once.
        """
        until = time.monotonic() + patience_s
        self.drain(patience_s)
        with self._changed:
            self._open = False
            self._changed.notify_all()
        self._thread.join(max(1.0, until - time.monotonic()))

    def drain(self, patience_s: float) -> bool:
        """Wait until everything said before is stored, tried again for so long; whether it is.

        Once a later attempt has begun, it returns at once.
        """
        until, pause_s = time.monotonic() + patience_s, 0.05
        while not self.flush(max(0.0, until - time.monotonic())):
            if not self._open or time.monotonic() >= until:
                return False
            time.sleep(min(pause_s, max(0.0, until - time.monotonic())))
            pause_s = min(2 * pause_s, 1.0)
        return True

    def _event(self, fields: Entry) -> Entry:
        entry = self._add(fields)
        if not self._is_file and self._due_later():
            return entry
        # A store that is known to fail, or to hang, is not waited for: training goes on.
        self._late = not self.flush(0.0 if self.problem or self._late else EVENT_PATIENCE_S)
        return entry

    def _due_later(self) -> bool:
        """Whether an event has to wait, because another was just stored; then it will be in a moment."""
        with self._changed:
            wait_s = self._stored_at + REMOTE_EVENT_S - time.monotonic()
            if wait_s > 0 or self.problem:
                self._due = min(self._due, time.monotonic() + max(wait_s, 0.0))
                self._changed.notify_all()
        return wait_s > 0 or self.problem is not None

    def _add(self, fields: Entry) -> Entry:
        head = {"type": fields["type"], "time": self._clock(), "attempt": self._attempt}
        entry: Entry = encode(head | {"step": fields["step"]} | fields | head)  # the head's order and values
        line = json.dumps(entry, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        with self._changed:
            self._said += 1
            if self._open:
                self._pending.append(line.encode() + b"\n")
        return _decoded(entry)  # what a reader will see

    def _run(self) -> None:
        while self._open:
            with self._changed:
                self._wait()
                asked, lines = self._asked, list(self._pending)
            self._store_lines(lines)
            with self._changed:
                self._tried = asked
                self._changed.notify_all()

    def _wait(self) -> None:
        until = time.monotonic() + self._flush_s
        while self._open and self._asked <= self._tried:
            left_s = min(until, self._due) - time.monotonic()
            if left_s <= 0:
                break
            self._changed.wait(min(left_s, threading.TIMEOUT_MAX))
        self._due = math.inf

    def _store_lines(self, lines: list[bytes]) -> None:
        if not lines:
            return
        try:
            if self._fence is not None:
                self._fence.check()
            self._append(b"".join(lines))
        except Exception as error:  # whatever it is, it must not end the thread
            self._fail(error)
            return
        with self._changed:
            del self._pending[: len(lines)]
            self._stored += len(lines)
            self._stored_at = time.monotonic()
            self.problem, self._late = None, False
        self._tell(lines)

    def _append(self, data: bytes) -> None:
        if not (self._is_file and self.problem):
            self._text.append(data)  # segments are written again whole, whatever became of them before
            return
        # A line torn by the failure before must not swallow the first of these; whole ones are there twice.
        self._text = Growing(self._store, key(self._attempt))
        self._text.append(b"\n" + data)

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self.problem, self._stored_at = error, time.monotonic()
            if isinstance(error, Superseded):
                self._open = False
                self._pending.clear()
            self._changed.notify_all()

    def _tell(self, lines: list[bytes]) -> None:
        if self._on_stored is None:
            return
        try:
            self._on_stored([entry for line in lines if (entry := _entry(line)) is not None])
        except Exception as error:  # it is told of the next ones all the same
            if not self._has_complained:
                print(f"lehr: a view of the journal fails: {error!r}", file=sys.stderr, flush=True)
            self._has_complained = True


def read(store: Store) -> list[Entry]:
    """All attempts as one story: one that started from step s replaces what earlier ones said after s."""
    story: list[Entry] = []
    for entries in lives(store):
        begins = next((entry["from_step"] for entry in entries if entry["type"] == "start"), None)
        if begins is not None:
            story = [entry for entry in story if entry["step"] is None or entry["step"] <= begins]
        story += entries
    return story


def sizes(store: Store, *, before: int) -> dict[str, int]:
    """Bytes of the files of all attempts before one: its start says them in `sealed`.

    What an old attempt that was frozen in the middle of a write adds later, when it thaws, is not read.
    """
    found = {number: growing.size(store, key(number)) for number in attempts(store) if number < before}
    return {str(number): size for number, size in found.items() if size is not None}


def lives(store: Store, *, until: int | None = None) -> list[list[Entry]]:
    """The entries of each attempt, in order, as far as later ones let them count.

    Args:
        store: the run's folder.
        until: the last attempt to read; None: all.
    """
    numbers = [number for number in attempts(store) if until is None or number <= until]
    found, sealed = list[list[Entry]](), dict[str, int]()
    for number in reversed(numbers):  # a later one says how far an earlier one counts
        data = growing.read(store, key(number))
        entries = _entries(data[: sealed.get(str(number))])
        start = next((entry for entry in entries if entry["type"] == "start"), {})
        for earlier, size in start.get("sealed", {}).items():
            sealed[earlier] = min(size, sealed.get(earlier, size))
        found.append(entries)
    return found[::-1]


def read_attempt(store: Store, attempt: int) -> list[Entry]:
    """The entries of one attempt, in order.

    A line torn by a kill is left out. A line that was sent again, because whether it had arrived was unknown,
    counts once.
    """
    return _entries(growing.read(store, key(attempt)))


def tail(store: Store, attempt: int, *, limit: int = TAIL_BYTES) -> list[Entry]:
    """The last entries of an attempt: those whole within the last `limit` bytes of its file."""
    size = growing.size(store, key(attempt)) or 0
    if size <= limit:
        return read_attempt(store, attempt) if size else []
    return _entries(growing.read(store, key(attempt), size - limit).partition(b"\n")[2])


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
