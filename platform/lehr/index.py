"""`.index/<run id>/<summary>`: how each run of a storage is, told by the names of empty keys.

One listing tells of a thousand runs, and reads none. It is a convenience, as `status.json` is: rank 0 keeps
its run's entry fresh, by a new key and then the end of the one before. A crash between the two leaves both,
and the newer one counts. A run without an entry is found by its folder, and read.

    Writer(storage, run_id).tell(status, checkpoint=, metric=)
    read(storage) -> {run id: Summary}
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lehr.errors import StorageError
from lehr.store import Store

if TYPE_CHECKING:
    from lehr.status import Status

ROOT = ".index"  # no run: the folder of the index
PERIOD_S = 30.0  # between two writes while the status stays the same
FOLDER_PERIOD_S = 5.0  # the same where keys are files
SWEEP = "sweep"  # in a checkpoint's place: it is a sweep, whose steps are trials
LONGEST = 240  # bytes of a name; file systems take 255
_UNSAFE = re.compile(r"[^A-Za-z0-9.-]")  # the rest is safe in names of files and keys everywhere
_ESCAPED = re.compile(r"(?:![0-9a-f]{2})+")


@dataclass(frozen=True)
class Summary:
    """One row of `lehr runs`.

    Args:
        status: the word of `status.json`.
        step: reached.
        steps: the plan's last.
        attempt: number of this life of the run.
        time: seconds since 1970 at which it was written.
        checkpoint: name of the newest committed one; "" when there is none; SWEEP of a sweep.
        metric: the one that says most, and its value.
    """

    status: str
    step: int
    steps: int
    attempt: int
    time: float
    checkpoint: str = ""
    metric: tuple[str, float] | None = None

    @property
    def name(self) -> str:
        """The key's name, which `parse` reads: fields between underscores."""
        metric, value = self.metric or ("", 0.0)
        told = (f"{round(self.time * 1000):013d}", self.status, self.step, self.steps, self.attempt,
                self.checkpoint, f"{value:.6g}" if metric else "", metric)  # fmt: skip
        text = "_".join(_escaped(str(field)) for field in told)
        return text if len(text) <= LONGEST else f"{text.rsplit('_', 2)[0]}__"[:LONGEST]


def parse(name: str) -> Summary | None:
    """What `Summary.name` says, the value of the metric in six digits; None when it is no such name."""
    try:
        moment, status, step, steps, attempt, checkpoint, value, metric = map(_plain, name.split("_"))
        told = (metric, float(value)) if metric else None
        return Summary(status, int(step), int(steps), int(attempt), int(moment) / 1000, checkpoint, told)
    except ValueError:
        return None


def _escaped(text: str) -> str:
    return _UNSAFE.sub(lambda found: "".join(f"!{byte:02x}" for byte in found[0].encode()), text)


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda found: bytes.fromhex(found[0].replace("!", "")).decode(), text)


def read(storage: Store) -> dict[str, Summary]:
    """The newest entry of each run that has one."""
    found: dict[str, Summary] = {}
    for key in storage.list(ROOT):
        run, _, name = key.removeprefix(f"{ROOT}/").partition("/")
        told = parse(name)
        if told is not None and (run not in found or _age(found[run]) <= _age(told)):
            found[run] = told
    return found


def forget(storage: Store, run_id: str) -> None:
    """Drop what is there of a run, which others do not keep fresh any more: it is found by its folder then.

    Raises:
        StorageError: the store does not take it.
    """
    place = storage.below(f"{ROOT}/{run_id}")
    for name in place.list():
        place.delete(name)


def _age(told: Summary) -> tuple[int, float]:
    return told.attempt, told.time  # hosts' clocks differ; attempts follow each other


class Writer:
    """Keeps the entry of one run, at a bounded rate. Not thread-safe; never raises for the store.

    Args:
        storage: where runs are.
        run_id: the run.
        period_s: between two writes, unless the status changes.
        now: seconds, from any moment on.
    """

    def __init__(
        self, storage: Store, run_id: str, *, period_s: float | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._place, self._now = storage.below(f"{ROOT}/{run_id}"), now
        is_folder = storage.local_path(ROOT) is not None
        self._period_s = period_s or (FOLDER_PERIOD_S if is_folder else PERIOD_S)
        self._written = ("", -float("inf"))  # status, and when
        self._old: list[str] | None = None  # keys to delete; None: what earlier attempts left, not yet known

    def tell(
        self, said: Status, *, checkpoint: str | None = None, metric: tuple[str, float] | None = None
    ) -> None:
        """Write the entry if it is due."""
        status, at = self._written
        if said.status == status and self._now() - at < self._period_s:
            return
        name = Summary(said.status, said.step, said.steps, said.attempt, said.time, checkpoint or "",
                       metric).name  # fmt: skip
        with contextlib.suppress(StorageError):  # what is told next tries again
            self._replace(name)
            self._written = (said.status, self._now())

    def _replace(self, name: str) -> None:
        if self._old is None:
            self._old = self._place.list()
        if name not in self._old:
            self._old.append(name)  # even if the write fails: it may be there
        self._place.write(name, b"")
        for old in [old for old in self._old if old != name]:
            self._place.delete(old)
            self._old.remove(old)


def telling(values: Mapping[str, float], wanted: str | None = None) -> tuple[str, float] | None:
    """The metric that says most in few letters: the one that picks the best checkpoint, or the first.

    Args:
        values: the newest of each metric by name.
        wanted: `checkpoint.keep_best.metric` of the spec.
    """
    names = (name for name in (wanted, *values) if name and name in values)
    name = next((name for name in names if name.startswith(("validation/", "train/"))), None)
    return None if name is None else (name, values[name])
