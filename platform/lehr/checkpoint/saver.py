"""Saving while training goes on: one thread a process writes, and rank 0 commits what all ranks wrote."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lehr.checkpoint import cleaning, retention, shares
from lehr.checkpoint.manifest import Manifest, Part, key, name
from lehr.checkpoint.parts import State
from lehr.checkpoint.reader import sizes_agree, verify
from lehr.checkpoint.shares import Patience
from lehr.errors import CheckpointError, letter
from lehr.journal import latest_attempt
from lehr.store import Store


def _nobody(event: str, **fields: Any) -> None:
    """Where nobody listens."""


@dataclass(frozen=True)
class KeepLast:
    """The plainest policy."""

    keep_last: int = 2
    keep_best: retention.Best | None = None


@dataclass(frozen=True)
class _Job:
    """One save: what, and how long the training thread waited to hand it over."""

    step: int
    state: State
    metrics: Mapping[str, float]
    blocked_s: float


@dataclass
class Saver:
    """Saves one worker's state; at rank 0, also commits, and deletes what need not be kept.

    A save that fails does not raise: it is told, and `failed_since` stands until one succeeds.

    Events, each with its `step`: `checkpoint` (rank 0, committed: checkpoint, bytes, workers, blocked_s
    on the training thread, background_s, deleted), `checkpoint_part` (another rank wrote its share; the same
    fields), `checkpoint_exists` (that step was saved before), `checkpoint_failed` (checkpoint, reason),
    `checkpoint_retention_failed` (reason).

    Args:
        store: the run's folder.
        rank: this worker's number.
        workers: how many there are.
        attempt: this life of the run, as claimed in its journal.
        spec_hash: of the job.
        versions: of the packages that make the numbers.
        keep: what to keep; the spec's `checkpoint` section is such a policy.
        on_event: told what happened, as `on_event(event, step=..., ...)`; by the saver's thread as a rule.
        patience: of rank 0 with the other ranks; its clock is the saver's.

    Attributes:
        committed: the last step saved, by this attempt or as the one it began from. At rank 0, saved means
            committed; at others, that their share is written.
        failed_since: time on the clock of the first failure since a save succeeded, or None.
        fenced: whether a later attempt has begun, so that this one will never commit again.
    """

    store: Store
    rank: int = field(kw_only=True)
    workers: int = field(kw_only=True)
    attempt: int = field(kw_only=True)
    spec_hash: str = field(default="", kw_only=True)
    versions: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    keep: retention.Policy = field(default_factory=KeepLast, kw_only=True)
    on_event: Callable[..., Any] = field(default=_nobody, kw_only=True)
    patience: Patience = field(default_factory=Patience, kw_only=True)

    committed: int | None = field(default=None, init=False)
    failed_since: float | None = field(default=None, init=False)
    fenced: bool = field(default=False, init=False)
    _from_step: int | None = field(default=None, init=False)
    _pinned: str | None = field(default=None, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)

    def resumed_from(self, manifest: Manifest) -> None:
        """This attempt began from that checkpoint: it stays until a newer one was verified."""
        self._from_step, self._pinned, self.committed = manifest.step, manifest.name, manifest.step

    def save(self, step: int, state: State, metrics: Mapping[str, float]) -> None:
        """Save `state`, whose arrays nobody changes any more, in the background; waits for the save before.

        The step that was saved last, or that this attempt began from, is not saved again.
        """
        began = self.patience.now()
        self.wait()
        if step == self.committed:
            self.on_event("checkpoint_exists", step=step)
            return
        job = _Job(step, state, dict(metrics), self.patience.now() - began)
        self._thread = threading.Thread(target=self._run, args=(job,), name="lehr-checkpoint", daemon=True)
        self._thread.start()

    def wait(self) -> int | None:
        """Wait until nothing is being saved; returns `committed`."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        return self.committed

    def _run(self, job: _Job) -> None:
        began = self.patience.now()
        folder = name(job.step, self.attempt)
        try:
            parts = shares.write(self.store, folder, job.state, rank=self.rank, workers=self.workers)
            if self.rank == 0:
                parts = self._commit(job, parts)
        except Exception as error:  # whatever it is, training goes on
            self._fail(job, str(error) or type(error).__name__)
            return
        self.committed, self.failed_since = job.step, None
        deleted = self._clean(job.step) if self.rank == 0 else []
        self.on_event(
            "checkpoint" if self.rank == 0 else "checkpoint_part",
            step=job.step, checkpoint=folder, bytes=sum(part.size_bytes for part in parts),
            workers=self.workers, blocked_s=job.blocked_s, background_s=self.patience.now() - began,
            deleted=deleted,
        )  # fmt: skip

    def _fail(self, job: _Job, reason: str) -> None:
        if self.failed_since is None:
            self.failed_since = self.patience.now()
        folder = name(job.step, self.attempt)
        if self.rank != 0:
            self._excuse(folder, reason)
        self.on_event("checkpoint_failed", step=job.step, checkpoint=folder, reason=reason)

    def _excuse(self, folder: str, reason: str) -> None:
        try:
            shares.excuse(self.store, folder, rank=self.rank, reason=reason)
        except Exception:
            return  # the store takes nothing at all: rank 0 will find out by its clock

    def _commit(self, job: _Job, mine: list[Part]) -> list[Part]:
        """Write the manifest when all parts are there, and see that the store holds them; all parts."""
        folder = name(job.step, self.attempt)
        parts = mine + shares.gather(self.store, folder, range(1, self.workers), self.patience)
        self._fence()
        manifest = Manifest(
            step=job.step, attempt=self.attempt, spec_hash=self.spec_hash, workers=self.workers,
            parts=tuple(parts), metrics=job.metrics, progress=job.state.progress,
            versions=dict(self.versions), time=time.time(),
        )  # fmt: skip
        self.store.write(key(folder), manifest.encode())
        self._confirm(manifest)
        return parts

    def _fence(self) -> None:
        latest = latest_attempt(self.store)
        self.fenced = latest > self.attempt
        if self.fenced:
            came = f"attempt {latest} of this run has begun, so attempt {self.attempt} may not commit"
            raise CheckpointError(letter(self.store.url, came, do="end this process; the other goes on"))

    def _confirm(self, manifest: Manifest) -> None:
        """Look at the sizes; read it all back where the one that goes for it could not be replaced."""
        if self._pinned is not None or self.keep.keep_last == 1:
            problems = verify(self.store, manifest)
        else:
            problems = [] if sizes_agree(self.store, manifest) else ["a part is missing or of another size"]
        if problems:
            self.store.delete(key(manifest.name))  # it must not pass for one of those to keep
            found = "; ".join(problems)
            raise CheckpointError(f"{manifest.name}: the store does not hold what it took: {found}")
        self._pinned = None

    def _clean(self, step: int) -> list[str]:
        """Delete what the policy does not keep (returned), and what remains of saves never completed."""
        life = cleaning.Life(self.attempt, from_step=self._from_step, step=step)
        try:
            gone = cleaning.doomed(self.store, self.keep, life)
            for folder in gone + cleaning.remains(self.store, life):
                cleaning.remove(self.store, folder)
        except Exception as error:  # the next save tries again
            self.on_event("checkpoint_retention_failed", step=step, reason=str(error))
            return []
        return gone
