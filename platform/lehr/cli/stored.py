"""What a run's folder in storage says about the run; nothing but storage is asked."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from lehr import journal, status, store
from lehr.checkpoint.manifest import ROOT, address
from lehr.cli import columns
from lehr.errors import KeyMissing, UserError, letter
from lehr.spec.place import nearest
from lehr.status import Status
from lehr.store import Store

READERS = 16  # runs looked at at a time
NOTHING = "-"


@dataclass(frozen=True)
class Run:
    """One run as its folder tells it.

    Args:
        name: its id.
        folder: where it is.
        plan: `plan.json`; {} when it cannot be read.
        status: the last sign of life, if any.
        attempts: their numbers.
    """

    name: str
    folder: Store
    plan: Mapping[str, Any] = field(default_factory=dict)
    status: Status | None = None
    attempts: tuple[int, ...] = ()

    @property
    def exists(self) -> bool:
        """Whether there is anything of a run in the folder."""
        return bool(self.plan or self.status or self.attempts)

    @property
    def steps(self) -> int | None:
        """The plan's last step, if it is known."""
        return self.status.steps if self.status else self.plan.get("steps")


def read(folder: Store) -> Run:
    """The run whose folder it is."""
    name = folder.url.rstrip("/").rpartition("/")[2]
    return Run(name, folder, _plan(folder), status.read(folder), tuple(journal.attempts(folder)))


def _plan(folder: Store) -> dict[str, Any]:
    try:
        document = json.loads(folder.read("plan.json"))
    except (KeyMissing, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def runs(storage: Store) -> list[Run]:
    """All runs in a storage, by name."""
    with ThreadPoolExecutor(READERS) as pool:
        found = pool.map(lambda name: read(storage.below(name)), storage.folders())
        return [run for run in found if run.exists]


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


def state(run: Run, *, now: float | None = None) -> str:
    """How it is: its own word, and whether it has fallen silent."""
    if run.status is None:
        return "started" if run.attempts else "planned"
    silent_s = run.status.silent_s(time.time() if now is None else now)
    return run.status.status + (f", silent for {columns.duration(silent_s)}" if silent_s is not None else "")


def progress(run: Run) -> str:
    """Step of steps."""
    step = run.status.step if run.status else 0
    return f"{step}/{run.steps}" if run.steps is not None else str(step)


def newest_checkpoint(folder: Store) -> str:
    """Name of the newest committed checkpoint, not read; "-" when there is none."""
    keys = (key.split("/") for key in folder.list(ROOT))
    names = [key[1] for key in keys if key[2:] == ["manifest.json"] and address(key[1])]
    return max(names, key=lambda name: address(name) or (0, 0), default=NOTHING)


def last_values(run: Run) -> dict[str, float]:
    """The newest value of each metric that the last entries of the run name."""
    found: dict[str, float] = {}
    for attempt in run.attempts[-2:]:
        for entry in journal.tail(run.folder, attempt):
            found |= entry.get("values", {})
    return found


def telling_metric(run: Run) -> str:
    """The metric that says most in few letters: what picks the best checkpoint, or the first of training."""
    values = last_values(run)
    checkpoint = run.plan.get("spec", {}).get("checkpoint") or {}
    wanted = (checkpoint.get("keep_best") or {}).get("metric")
    names = [
        name for name in (wanted, *values) if name in values and name.startswith(("validation/", "train/"))
    ]
    if not names:
        return NOTHING
    value = values[names[0]]
    return f"{names[0]} {columns.number(value)}"
