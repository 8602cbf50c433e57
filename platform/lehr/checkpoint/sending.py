"""One save on its way into the store: what is sent in which order, and where it goes on after a failure."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lehr.checkpoint import shares
from lehr.checkpoint.manifest import Manifest, Part, decode_tombstone, key, name
from lehr.checkpoint.reader import glance, inspect
from lehr.checkpoint.shares import Patience
from lehr.checkpoint.spool import File
from lehr.errors import CheckpointError, Superseded, letter
from lehr.fence import Fence
from lehr.store import Store
from lehr.vitals import OURS

_chance = random.SystemRandom()  # the global one is the user's


@dataclass(frozen=True)
class Backoff:
    """How long to rest after so many failures in a row: any time up to a bound that doubles (full jitter)."""

    first_s: float = 0.2
    longest_s: float = 15.0

    def pause_s(self, failures: int) -> float:
        """Seconds before the next try, after `failures` >= 1."""
        return _chance.uniform(0.0, min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, 60)))


class Closed(Exception):
    """The saver was closed: nothing more is sent."""


@dataclass(frozen=True)
class Writer:
    """Who saves: see `Saver`. Set `closing` and it stops at the next change."""

    store: Store
    fence: Fence
    rank: int
    workers: int
    attempt: int
    spec_hash: str
    versions: Mapping[str, str]
    patience: Patience
    before_commit: Callable[[], object]
    closing: threading.Event = field(default_factory=threading.Event)

    def check(self, *, fresh: bool = False) -> None:
        """Raise Superseded or Closed when nothing may be changed any more."""
        if self.closing.is_set():
            raise Closed
        self.fence.check(fresh=fresh)


@dataclass
class Save:
    """One save after its arrays were written down.

    Attributes:
        step: the state is that after `step` updates.
        metrics: last known.
        progress: of the state.
        began: when it was handed over, on the saver's clock.
        blocked_s: how long that took.
        files: what to send.
        excuse: why nothing is sent; "" for a save that is.
    """

    step: int
    metrics: Mapping[str, float]
    progress: Mapping[str, Any]
    began: float
    blocked_s: float
    files: list[File] = field(default_factory=list)
    excuse: str = ""

    @property
    def parts(self) -> list[Part]:
        """What this rank's files are."""
        return [file.part for file in self.files]

    @property
    def is_in_memory(self) -> bool:
        """Whether a file of it has no place on the disk."""
        return any(isinstance(file.content, bytes) for file in self.files)


class Delivery:
    """Sends one save. After a StorageError, `go` again goes on where it was.

    Args:
        writer: who sends.
        save: what.

    Attributes:
        progress: grows with every change that worked.
    """

    def __init__(self, writer: Writer, save: Save) -> None:
        self.progress = 0
        self._writer, self._save = writer, save
        self._folder = name(save.step, writer.attempt)
        self._sent: set[str] = set()
        self._sent_twice = False
        self._gathering = shares.Gathering(self._folder, range(1, writer.workers))
        self._manifest: Manifest | None = None

    def go(self, *, thorough: bool) -> list[Part]:
        """Send everything, in the order that `seal` relies on.

        At rank 0, returns the parts of all ranks; at others, its own.

        Args:
            thorough: read everything back before it is committed.

        Raises:
            CheckpointError: this save cannot be completed.
            Superseded: a later attempt has begun.
            Closed: the saver was closed.
            StorageError: the store failed; try again.
        """
        writer, save = self._writer, self._save
        writer.check()
        if save.excuse:
            shares.excuse(writer.store, self._folder, rank=writer.rank, reason=save.excuse)
            return []
        if self._manifest is None:
            self._manifest = self._complete(thorough=thorough)
        if writer.rank == 0:
            writer.before_commit()
            self._commit(self._manifest, thorough=thorough)
        return list(self._manifest.parts)

    def _complete(self, *, thorough: bool) -> Manifest:
        """All files in the store, and seen there."""
        writer = self._writer
        self._send()
        if writer.rank != 0:
            manifest = self._described(self._save.parts)
            self._confirm(manifest, thorough=False)
        writer.check()
        shares.describe(writer.store, self._folder, rank=writer.rank, parts=self._save.parts)
        self.progress += 1
        if writer.rank == 0:
            others = self._gathering.finish(writer.store, writer.patience, writer.check)
            manifest = self._described(self._save.parts + others)
            self._confirm(manifest, thorough=thorough)
        return manifest

    def _send(self) -> None:
        for file in self._save.files:
            if file.part.file not in self._sent:
                self._writer.check()
                self._put(key(self._folder, file.part.file), file.content)
                OURS.uploaded_bytes += file.part.size_bytes
                self._sent.add(file.part.file)
                self.progress += 1

    def _put(self, where: str, content: Path | bytes) -> None:
        if isinstance(content, bytes):
            self._writer.store.write(where, content)
        else:
            self._writer.store.put(where, content)

    def _confirm(self, manifest: Manifest, *, thorough: bool) -> None:
        """Look whether the store holds what it took; own files that it does not are sent once more."""
        problems = self._problems(manifest, thorough=thorough)
        if problems and problems.keys() <= self._sent and not self._sent_twice:
            self._sent_twice = True
            self._sent -= problems.keys()
            self._send()
            problems = self._problems(manifest, thorough=thorough)
        if problems:
            found = "; ".join(problems.values())
            raise CheckpointError(f"{self._folder}: the store does not hold what it took: {found}")

    def _problems(self, manifest: Manifest, *, thorough: bool) -> dict[str, str]:
        store = self._writer.store
        if thorough:
            return inspect(store, manifest, manifest.parts)
        return glance(store, self._folder, manifest.parts)

    def _described(self, parts: list[Part]) -> Manifest:
        writer, save = self._writer, self._save
        return Manifest(
            step=save.step, attempt=writer.attempt, spec_hash=writer.spec_hash, workers=writer.workers,
            parts=tuple(parts), metrics=save.metrics, progress=save.progress,
            versions=dict(writer.versions), time=time.time(),
        )  # fmt: skip

    def _commit(self, manifest: Manifest, *, thorough: bool) -> None:
        store, where, data = self._writer.store, key(self._folder), manifest.encode()
        self._writer.check(fresh=True)
        created = store.create(where, data)
        if created and not thorough:
            return
        found = store.read(where)
        if found == data:
            return  # also when it is an earlier try's, whose answer was lost
        if tombstone := decode_tombstone(found):
            came = f"{self._folder} was closed by attempt {tombstone.superseded_by}"
            raise Superseded(letter(store.url, came, do="end this process; the other goes on"))
        raise CheckpointError(f"{self._folder}: there is a manifest that this save did not write")
