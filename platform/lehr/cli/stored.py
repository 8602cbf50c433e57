"""What a run's folder in storage says about the run; nothing but storage is asked."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from lehr import index, journal, status, store
from lehr.checkpoint.manifest import ROOT, committed_names
from lehr.cli import columns
from lehr.errors import KeyMissing, UserError, letter
from lehr.index import Summary
from lehr.spec.place import nearest
from lehr.status import ALIVE, Status
from lehr.store import Store

READERS = 16  # runs looked at at a time
NOTHING = "-"
AMISS = ("failed", "diverged")
SWEEP, TRIALS = "sweep.json", "trials"  # what makes a folder a sweep's, and where its trials' runs are
_TRIAL = re.compile(r"(.+?)-[0-9]{4,}(?:-[1-9][0-9]*)?")
HEAD = ("run", "status", "step", "attempts", "metric", "checkpoint", "last heard of")


@dataclass(frozen=True)
class Run:
    """One run as its folder tells it.

    Args:
        name: its id.
        folder: where it is.
        plan: `plan.json`; {} when it cannot be read.
        status: the last sign of life, if any.
        attempts: their numbers.
        summary: what the index says; then neither the plan nor a sweep's document is read.
        sweep: `sweep.json` of one that is a sweep; {} of others.
    """

    name: str
    folder: Store
    plan: Mapping[str, Any] = field(default_factory=dict)
    status: Status | None = None
    attempts: tuple[int, ...] = ()
    summary: Summary | None = None
    sweep: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exists(self) -> bool:
        """Whether there is anything of a run in the folder."""
        return bool(self.plan or self.sweep or self.status or self.attempts)

    @property
    def is_sweep(self) -> bool:
        """Whether it is a sweep: its steps are trials."""
        return bool(self.sweep) or (self.summary is not None and self.summary.checkpoint == index.SWEEP)

    @property
    def steps(self) -> int | None:
        """The plan's last step, if it is known."""
        return self.status.steps if self.status else self.plan.get("steps")


def read(folder: Store) -> Run:
    """The run whose folder it is."""
    name = folder.url.rstrip("/").rpartition("/")[2]
    plan = _document(folder, "plan.json")
    sweep = {} if plan else _document(folder, SWEEP)
    return Run(name, folder, plan, status.read(folder), tuple(journal.attempts(folder)), sweep=sweep)


def _document(folder: Store, key: str) -> dict[str, Any]:
    """A JSON object of the store; {} when there is none that can be read."""
    try:
        document = json.loads(folder.read(key))
    except (KeyMissing, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def runs(storage: Store) -> list[Run]:
    """All runs in a storage, by name: two listings, and reading for those alone of which the index lacks."""
    with ThreadPoolExecutor(READERS) as pool:
        asked = pool.submit(index.read, storage)
        names = [name for name in storage.folders() if name != index.ROOT]
        known, now = asked.result(), time.time()
        found = pool.map(lambda name: _listed(storage.below(name), known.get(name), now), names)
        return [run for run in found if run.exists]


def _listed(folder: Store, summary: Summary | None, now: float) -> Run:
    """A run as the index tells it, unless that is too old to be true of one that is alive."""
    if summary is None:
        return read(folder)
    told = Status(summary.status, summary.step, summary.steps, summary.attempt, time=summary.time)
    if told.silent_s(now) is not None:
        newest = status.read(folder)
        if newest and (newest.status, newest.step, newest.attempt) != (told.status, told.step, told.attempt):
            return read(folder)
        told = newest or told
    name = folder.url.rstrip("/").rpartition("/")[2]
    return Run(name, folder, {}, told, tuple(range(1, told.attempt + 1)), summary)


def find(name: str, storage: str) -> Run:
    """The run of that id in `storage`, or the one whose whole folder or URL `name` is.

    Raises:
        UserError: there is none.
    """
    whole = "/" in name or name in ("", ".", "..")
    place = store.connect(name if whole else storage)
    run = read(place if whole else place.below(name))
    if run.exists:
        return run
    if not whole and (trial := _trial(name, place)) is not None:
        return trial
    if whole:
        raise UserError(letter("RUN", f"there is no run at {place.url}", do="list those of a storage with "
                               "`lehr runs --storage URL`"))  # fmt: skip
    names = [other.name for other in runs(place)]
    close = nearest(name, names)
    raise UserError(
        letter(
            "RUN",
            f"there is no run {name!r} in {place.url}" + (f"; did you mean {close}?" if close else ""),
            accepted=", ".join(names) if names else "none: there are no runs in it",
            do="name one of these, give --storage URL (or set LEHR_STORAGE), or give the run's whole URL",
        )
    )


def _trial(name: str, place: Store) -> Run | None:
    """The run of that id among those of a sweep's trials: `<sweep>-0007`, or `<sweep>-0007-2`."""
    found = _TRIAL.fullmatch(name)
    if found is None:
        return None
    run = read(place.below(f"{found[1]}/{TRIALS}/{name}"))
    return run if run.exists else None


def refuse_sweep(run: Run) -> None:
    """Refuse a sweep where a run that trains is wanted.

    Raises:
        UserError: it is a sweep.
    """
    if run.is_sweep:
        do = f"look at it: lehr sweep show {run.name}; name one of its trials, as {run.name}-0001"
        raise UserError(letter("RUN", f"{run.name} is a sweep: its trials are the runs", do=do))


def refuse_trial(run: Run) -> None:
    """Refuse a trial's run where one that stands alone is wanted.

    Raises:
        UserError: a sweep drives it.
    """
    base, _, inner = run.folder.url.rstrip("/").rpartition(f"/{TRIALS}/")
    sweep, found = base.rpartition("/")[2], _TRIAL.fullmatch(inner)
    if found is not None and found[1] == sweep:
        came = f"{run.name} is a trial of the sweep {sweep}, which would begin it again at once"
        raise UserError(letter("RUN", came, do=f"stop the sweep as a whole: lehr stop {sweep}"))


def state(run: Run, *, now: float | None = None) -> str:
    """How it is: its own word, and whether it has fallen silent."""
    if run.status is None:
        return "started" if run.attempts else "planned"
    silent_s = run.status.silent_s(time.time() if now is None else now)
    return run.status.status + (f", silent for {columns.duration(silent_s)}" if silent_s is not None else "")


def is_amiss(run: Run) -> bool:
    """Whether it needs somebody: it failed, diverged, or says nothing although it ought to."""
    told = run.status
    return told is not None and (told.status in AMISS or told.silent_s(time.time()) is not None)


def is_alive(run: Run) -> bool:
    """Whether it is being trained, as far as storage tells."""
    told = run.status
    return told is not None and told.status in ALIVE and told.silent_s(time.time()) is None


def progress(run: Run) -> str:
    """Step of steps; of a sweep, how many of its trials are over."""
    step = run.status.step if run.status else 0
    told = f"{step}/{run.steps}" if run.steps is not None else str(step)
    return f"{told} trials" if run.is_sweep else told


def newest_checkpoint(run: Run) -> str:
    """Name of the newest committed checkpoint, not read; "-" when there is none."""
    if run.is_sweep:
        return NOTHING
    if run.summary is not None:
        return run.summary.checkpoint or NOTHING
    names = committed_names(run.folder.list(ROOT))
    return names[-1] if names else NOTHING


def last_values(run: Run) -> dict[str, float]:
    """The newest value of each metric that the last entries of the run name."""
    found: dict[str, float] = {}
    for attempt in run.attempts[-2:]:
        for entry in journal.tail(run.folder, attempt):
            found |= entry.get("values", {})
    return found


def telling_metric(run: Run) -> str:
    """The metric that says most in few letters: what picks the best checkpoint, or the first of training."""
    told = run.summary.metric if run.summary else index.telling(last_values(run), _wanted(run))
    return f"{told[0]} {columns.number(told[1])}" if told else NOTHING


def _wanted(run: Run) -> str | None:
    checkpoint = run.plan.get("spec", {}).get("checkpoint") or {}
    name = (checkpoint.get("keep_best") or {}).get("metric")
    return str(name) if name else None


def rows(found: list[Run]) -> list[tuple[str, ...]]:
    """The lines of `lehr runs`, head first."""
    with ThreadPoolExecutor(READERS) as pool:
        return [HEAD, *pool.map(_row, found)]


def _row(run: Run) -> tuple[str, ...]:
    age = f"{columns.duration(time.time() - run.status.time)} ago" if run.status else NOTHING
    return (run.name, state(run), progress(run), str(len(run.attempts)), telling_metric(run),
            newest_checkpoint(run), age)  # fmt: skip
