"""The thread that brings saves into the store, one after the other, however often that fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lehr.checkpoint import cleaning, retention
from lehr.checkpoint.line import Line
from lehr.checkpoint.manifest import ROOT, Manifest, Part, listing, name
from lehr.checkpoint.sealing import seal
from lehr.checkpoint.sending import Backoff, Closed, Delivery, Save, Writer
from lehr.errors import KeyMissing, StorageError, Superseded
from lehr.vitals import OURS


@dataclass
class Standing:
    """How saving goes; see `Saver`."""

    now: Callable[[], float]
    committed: int | None = None
    failed_since: float | None = None
    failed_last: float | None = None
    problem: str = ""
    fenced: bool = False
    outage_since: float | None = None

    def fail(self, error: Exception) -> str:
        """Something failed; why, in words."""
        self.problem = str(error) or type(error).__name__
        self.failed_last = self.now()
        if self.failed_since is None:
            self.failed_since = self.failed_last
        return self.problem

    def succeed(self, step: int) -> float | None:
        """A save is where it should be; seconds since the store began to fail, if it did."""
        outage_s = None if self.outage_since is None else self.now() - self.outage_since
        self.committed, self.failed_since, self.problem, self.outage_since = step, None, "", None
        return outage_s


@dataclass
class Sender:
    """Sends what is in line; at rank 0, also deletes what need not be kept.

    Args:
        writer: who saves.
        line: what is to be sent.
        standing: how it goes, kept up to date.
        keep: what to keep.
        grace_s: for which the remains of earlier attempts stay.
        backoff: between tries.
        tell: told what happened.
    """

    writer: Writer
    line: Line
    standing: Standing
    keep: retention.Policy
    grace_s: float
    backoff: Backoff
    tell: Callable[..., None]
    _from_step: int | None = field(default=None, init=False)
    _pinned: bool = field(default=False, init=False)  # that one goes only after one that was read back

    def resumed_from(self, manifest: Manifest) -> None:
        """See `Saver`."""
        self._from_step, self._pinned, self.standing.committed = manifest.step, True, manifest.step

    def run(self) -> None:
        """Until it is over."""
        while (save := self.line.first()) is not None:
            self._deliver(save)
            self.line.done(save)

    def _deliver(self, save: Save) -> None:
        delivery, failures, progress = Delivery(self.writer, save), 0, 0
        while not self.writer.closing.is_set():
            try:
                self._try(save, delivery)
                return
            except Closed:
                return
            except StorageError as error:
                self._outage(save, error)
            failures = 1 if delivery.progress > progress else failures + 1
            progress = delivery.progress
            self.writer.closing.wait(self.backoff.pause_s(failures))

    def _try(self, save: Save, delivery: Delivery) -> None:
        """Raises StorageError when the store fails, and Closed."""
        thorough = self.writer.rank == 0 and (self._pinned or self.keep.keep_last == 1)
        try:
            parts = _sent(delivery, thorough=thorough)
        except Superseded as error:
            self._fail(save, error)
            self._end()
        except (Closed, StorageError):
            raise
        except Exception as error:
            had_excuse = save.excuse
            self._fail(save, error)
            if self.writer.rank != 0 and not had_excuse:
                self._try(save, delivery)  # to send the excuse
        else:
            if not save.excuse:
                self._succeed(save, parts)

    def _end(self) -> None:
        self.standing.fenced = True
        self.line.end()

    def _fail(self, save: Save, error: Exception) -> None:
        if self.writer.closing.is_set():
            raise Closed  # what fails then, fails because of that
        if save.excuse:
            return  # told before
        save.excuse = self.standing.fail(error)
        self.tell("checkpoint_failed", **told(save, self.writer.attempt))

    def _outage(self, save: Save, error: StorageError) -> None:
        if self.writer.closing.is_set():
            return
        reason = self.standing.fail(error)
        if self.standing.outage_since is None:
            self.standing.outage_since = self.standing.now()
            self.tell("storage_outage", step=save.step, reason=reason)

    def _succeed(self, save: Save, parts: list[Part]) -> None:
        outage_s = self.standing.succeed(save.step)
        OURS.checkpoint_at = time.time()
        if outage_s is not None:
            self.tell("storage_back", step=save.step, after_s=outage_s)
        deleted: list[str] = []
        if self.writer.rank == 0:
            self._pinned = False
            self._clean(save.step, deleted)
        self.tell(
            "checkpoint" if self.writer.rank == 0 else "checkpoint_part",
            step=save.step, checkpoint=name(save.step, self.writer.attempt),
            bytes=sum(part.size_bytes for part in parts), workers=self.writer.workers,
            blocked_s=save.blocked_s, background_s=self.standing.now() - save.began, deleted=deleted,
        )  # fmt: skip

    def _clean(self, step: int, deleted: list[str]) -> None:
        """Delete what the policy does not keep, and what remains of saves never completed.

        Before each folder the store is asked whether a later attempt has begun. One that begins between that
        question and the folder's last deletion finds it half deleted: a checkpoint that the policy does not
        keep, never the newest, and never the one resumed from before a newer one was read back.
        """
        store = self.writer.store
        life = cleaning.Life(self.writer.attempt, from_step=self._from_step, step=step)
        try:
            seal(store, life.attempt)  # an earlier attempt's last upload may have come after the first time
            found = listing(store)
            for folder in cleaning.doomed(found, self.keep, life):
                self.writer.check(fresh=True)
                cleaning.remove(store, folder)
                deleted.append(folder)
            over = cleaning.remains(found, life, sealed_before=time.time() - self.grace_s)
            for folder in over + cleaning.empty(store.folders(ROOT), found, life):
                self.writer.check(fresh=True)
                cleaning.remove_remains(store, folder)
        except Superseded:
            self._end()
        except Closed:
            return
        except Exception as error:  # the next save tries again
            self.tell("checkpoint_retention_failed", step=step, reason=str(error))


def _sent(delivery: Delivery, *, thorough: bool) -> list[Part]:
    try:
        return delivery.go(thorough=thorough)
    except KeyMissing as error:  # of what was just written: no outage explains that
        raise RuntimeError(str(error)) from error


def told(saved: Save, attempt: int) -> dict[str, Any]:
    """The fields of an event about a save that comes to nothing."""
    return {"step": saved.step, "checkpoint": name(saved.step, attempt), "reason": saved.excuse}
