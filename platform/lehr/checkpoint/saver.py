"""Saving while training goes on, whatever the store does: to local disk first, and from there in order.

Two threads: one writes a snapshot to the spool and forgets its arrays, one sends what is in the spool and, at
rank 0, commits what all ranks sent. In memory are at most two snapshots, the one that is written down and the
one that waits for it, and a third where the spool cannot take one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lehr.checkpoint import retention
from lehr.checkpoint.line import Line, Snapshot, written_down
from lehr.checkpoint.manifest import Manifest
from lehr.checkpoint.parts import State, files
from lehr.checkpoint.sender import Sender, Standing, told
from lehr.checkpoint.sending import Backoff, Save, Writer
from lehr.checkpoint.shares import Patience
from lehr.checkpoint.spool import Spool
from lehr.fence import Fence
from lehr.store import Store

CLOSE_S = 2.0  # that `close` waits for a thread whose call to the store does not return


def _nobody(event: str, **fields: Any) -> None:
    """Where nobody listens."""


def _nothing() -> None:
    """What is done before a commit where nothing is."""


@dataclass(frozen=True)
class KeepLast:
    """The plainest policy."""

    keep_last: int = 2
    keep_best: retention.Best | None = None


@dataclass
class Saver:
    """Saves one worker's state; at rank 0, also commits, and deletes what need not be kept.

    Checkpoints commit in the order of their saves. While the store fails, saves wait in the spool and are
    tried for as long as the saver lives; where there is no room for a new one, the oldest that waits is
    dropped. A save that cannot be completed for another reason fails alone, and the next goes on. Nothing of
    this raises into training.

    Events, each with its `step`: `checkpoint` (rank 0, committed: checkpoint, bytes, workers, blocked_s
    on the training thread, background_s, deleted), `checkpoint_part` (another rank wrote its share; the same
    fields), `checkpoint_exists` (that step was saved before, or is being saved), `checkpoint_failed`
    (checkpoint, reason), `checkpoint_dropped` (checkpoint, reason), `checkpoint_retention_failed` (reason),
    `storage_outage` (reason: of the first failure), `storage_back` (after_s: a save succeeded again).

    Args:
        store: the run's folder.
        rank: this worker's number.
        workers: how many there are.
        attempt: this life of the run, as claimed in its journal.
        spec_hash: of the job.
        versions: of the packages that make the numbers.
        keep: what to keep; the spec's `checkpoint` section is such a policy.
        on_event: told what happened, as `on_event(event, step=..., ...)`; by the saver's threads as a rule,
            which wait for it.
        patience: of rank 0 with the other ranks; its clock is the saver's.
        spool_bytes: how much may wait on this machine's disk.
        spool: the folder to make the spool in; by default where temporary files are.
        grace_s: for which the remains of earlier attempts stay after they were sealed.
        fence: of this attempt; made from `store` and `attempt` by default.
        backoff: between tries of a store that fails.
        before_commit: called by rank 0's saver before each commit; when it raises StorageError, the commit is
            tried again later.

    Attributes:
        committed: the last step saved, by this attempt or as the one it began from. At rank 0, saved means
            committed; at others, that their share is written.
        failed_since: time on the clock of the first failure since a save succeeded, or None.
        failed_last: time on the clock of the last failure; None before the first.
        problem: the last failure since a save succeeded, in words, or "".
        fenced: whether a later attempt has begun, so that this one will never commit again.
        waiting: number of saves handed over and not yet committed (at other ranks than 0: not yet sent).
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
    spool_bytes: int = field(default=4 << 30, kw_only=True)
    spool: Path | None = field(default=None, kw_only=True)
    grace_s: float = field(default=3600.0, kw_only=True)
    fence: Fence | None = field(default=None, kw_only=True)
    backoff: Backoff = field(default_factory=Backoff, kw_only=True)
    before_commit: Callable[[], object] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        fence = self.fence or Fence(self.store, self.attempt)
        self._writer = Writer(
            self.store, fence, self.rank, self.workers, self.attempt, self.spec_hash, self.versions,
            self.patience, self.before_commit or _nothing,
        )  # fmt: skip
        self._spool = Spool(self.spool_bytes, self.spool)
        self._line = Line(self._spool, excuses=self.rank != 0)
        self._standing = Standing(self.patience.now)
        self._sender = Sender(
            self._writer, self._line, self._standing, self.keep, self.grace_s, self.backoff, self._tell
        )
        self._threads: list[threading.Thread] = []

    @property
    def committed(self) -> int | None:
        return self._standing.committed

    @property
    def failed_since(self) -> float | None:
        return self._standing.failed_since

    @property
    def failed_last(self) -> float | None:
        return self._standing.failed_last

    @property
    def problem(self) -> str:
        return self._standing.problem

    @property
    def fenced(self) -> bool:
        return self._standing.fenced

    @property
    def waiting(self) -> int:
        with self._line.changed:
            return len(self._line.steps) + (self._line.snapshot is not None)

    def resumed_from(self, manifest: Manifest) -> None:
        """This attempt began from that checkpoint: it stays until a newer one was verified."""
        self._sender.resumed_from(manifest)

    def save(self, step: int, state: State, metrics: Mapping[str, float]) -> None:
        """Save `state`, whose arrays nobody changes any more, in the background; never waits for the store.

        Waits while the snapshot before is being written to local disk. The step that was saved last, or is
        being saved, or that this attempt began from, is not saved again.
        """
        began, line = self.patience.now(), self._line
        with line.changed:
            line.changed.wait_for(lambda: line.snapshot is None or line.over)
            if line.over:
                return
            exists = step == self.committed or step in line.steps
            if not exists:
                blocked_s = self.patience.now() - began
                line.hand_over(Snapshot(step, state, dict(metrics), began, blocked_s))
                self._start()
        if exists:
            self._tell("checkpoint_exists", step=step)

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait until nothing is waiting or being sent, or nothing ever will be; returns `committed`."""
        with self._line.changed:
            self._line.changed.wait_for(lambda: self._line.is_idle, timeout_s)
            return self.committed

    def close(self) -> None:
        """End at once, and remove the spool: what was not sent is lost.

        A call to the store that is under way may still take effect.
        """
        self._writer.closing.set()
        self._line.end()
        for thread in self._threads:
            thread.join(CLOSE_S)
        self._spool.close()

    def _start(self) -> None:
        if not self._threads:
            for work, what in ((self._write_down_all, "spool"), (self._sender.run, "send")):
                thread = threading.Thread(target=work, name=f"lehr-checkpoint-{what}", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _write_down_all(self) -> None:
        while (snapshot := self._line.handed_over()) is not None:
            news = self._write_down(snapshot)
            del snapshot  # its arrays can go
            self._line.hand_over(None)
            for event, save in news:
                self._tell(event, **told(save, self.attempt))

    def _write_down(self, snapshot: Snapshot) -> list[tuple[str, Save]]:
        """Put a snapshot in line, as files; the saves that come to nothing, with the event to tell."""
        save, dropped = written_down(snapshot), list[Save]()
        try:
            arrays = files(snapshot.state, rank=self.rank, workers=self.workers)
            self._line.place(save, snapshot.state, arrays, dropped)
        except Exception as error:  # whatever it is, training goes on
            save.excuse = self._standing.fail(error)
        if not save.excuse or self.rank != 0:
            self._line.add(save)
        news = [("checkpoint_dropped", each) for each in dropped]
        return news + ([("checkpoint_failed", save)] if save.excuse else [])

    def _tell(self, event: str, **fields: Any) -> None:
        try:
            self.on_event(event, **fields)
        except Exception as error:  # shown as a thread's last words are, but the thread goes on
            told_by = threading.current_thread()
            threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, told_by)))
