"""Puts the entries of a run into a tracker's session: rows that it lacks, checkpoints, configuration."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from lehr.errors import KeyMissing, LehrError
from lehr.journal import Entry
from lehr.store import Store
from lehr.tracking.replay import Row, Stream

GOOD = ("completed", "stopped", "left")


class Refused(LehrError):
    """The tracker's server answers and takes nothing: the key is wrong, or not for this project."""


class Unsent(LehrError):
    """The tracker's server cannot be reached, or did not take all of it in time."""


class Session(Protocol):
    """What takes the rows; the first that it lacks is number `rows`."""

    @property
    def rows(self) -> int: ...
    def row(self, row: Row, pictures: dict[str, bytes]) -> None: ...
    def configure(self, told: dict[str, Any]) -> None: ...
    def checkpoint(self, url: str, metadata: dict[str, Any]) -> None: ...


class Files(Protocol):
    """What W&B says of a run's files."""

    def files(self) -> set[str]: ...
    def upload(self, files: Iterable[tuple[str, bytes]]) -> None: ...


class Sender:
    """Takes all entries of a run in order, from the first; one taken again does nothing.

    Args:
        run: the run's folder.
        session: takes the rows.
        known: names of the checkpoints that need not be told again.

    Attributes:
        count: rows of the entries so far, those that were there before included.
        sent: rows put into the session.
        exit_code: 0 when the last end was a good one.
    """

    def __init__(self, run: Store, session: Session, known: set[str] | None = None) -> None:
        self.sent = 0
        self.exit_code = 1  # until the journal says that it ended well
        self._run, self._session, self._known = run, session, set(known or ())
        self._stream = Stream()

    @property
    def count(self) -> int:
        return self._stream.count

    def take(self, entry: Entry) -> None:
        """Send what is new in an entry."""
        row = self._stream.take(entry)
        if row is not None and row.number >= self._session.rows:
            self._session.row(row, pictures(self._run, row))
            self.sent += 1
        kind = entry["type"]
        if kind == "start":
            self._start(entry)
        elif kind == "end":
            self.exit_code = 0 if entry["outcome"] in GOOD else 1
        elif kind == "event" and entry["event"] == "checkpoint" and "checkpoint" in entry:
            self._checkpoint(entry)

    def _start(self, entry: Entry) -> None:
        self.exit_code = 1
        names = ("attempt", "from_step", "versions", "workers", "replicas")
        told = {name: entry[name] for name in names if name in entry}
        versions = {"lehr_version": entry["versions"].get("lehr", "")} if "versions" in entry else {}
        self._session.configure(told | versions)

    def _checkpoint(self, entry: Entry) -> None:
        name = entry["checkpoint"]
        found = manifest(self._run, name) if name not in self._known else None
        if found is None:
            return
        self._known.add(name)
        metadata = {name: entry[name] for name in ("checkpoint", "step", "attempt", "bytes") if name in entry}
        self._session.checkpoint(url(self._run, name), metadata | {"manifest_sha256": found})


def pictures(run: Store, row: Row) -> dict[str, bytes]:
    """The row's pictures by name; those that are no longer there are left out."""
    found = {}
    for name, where in row.pictures.items():
        try:
            found[name] = run.read(where)
        except KeyMissing:
            continue
    return found


def picture_file(row: Row, name: str, png: bytes) -> str:
    """The file that W&B's client makes of a picture, among the files of W&B's run."""
    return f"{_stem(row, name)}{hashlib.sha256(png).hexdigest()[:20]}.png"


def _stem(row: Row, name: str) -> str:
    return f"media/images/{name}_{row.number}_"


def lacking(run: Store, rows: Iterable[Row], server: Files) -> dict[str, str]:
    """Pictures whose files W&B lacks: their keys in the run's folder, by W&B's name.

    W&B's client sends pictures apart from their rows and some seconds later, so one that was killed may have
    sent the rows alone. Only pictures that are missing are read.

    Args:
        run: the run's folder.
        rows: that W&B has.
        server: of W&B's run.
    """
    having = [row for row in rows if row.pictures]
    there = {file.rpartition("_")[0] + "_" for file in (server.files() if having else ())}
    missing = ((row, name) for row in having for name in row.pictures if _stem(row, name) not in there)
    found = {}
    for row, name in missing:
        with contextlib.suppress(KeyMissing):  # no longer kept
            found[picture_file(row, name, run.read(row.pictures[name]))] = row.pictures[name]
    return found


def manifest(run: Store, checkpoint: str) -> str | None:
    """SHA-256 of a checkpoint's manifest; None when there is none: retention has deleted it."""
    try:
        return hashlib.sha256(run.read(f"checkpoints/{checkpoint}/manifest.json")).hexdigest()
    except KeyMissing:
        return None


def url(run: Store, checkpoint: str) -> str:
    """Where a checkpoint is, from any folder: a local one as file:///..."""
    key = f"checkpoints/{checkpoint}"
    local = run.local_path(key)
    return Path(local).absolute().as_uri() if local is not None else f"{run.url.rstrip('/')}/{key}"
