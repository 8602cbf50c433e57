"""The saves between the training thread and the store, in the order in which they were made."""

from __future__ import annotations

import errno
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lehr.checkpoint.parts import Arrays, State
from lehr.checkpoint.sending import Save
from lehr.checkpoint.spool import File, Spool, in_memory, size_bytes


@dataclass(frozen=True)
class Snapshot:
    """What was handed over.

    Args:
        step: the state is that after `step` updates.
        state: its arrays.
        metrics: last known.
        began: when it was to be handed over, on the saver's clock.
        blocked_s: how long that took.
    """

    step: int
    state: State
    metrics: Mapping[str, float]
    began: float
    blocked_s: float


class NoRoom(Exception):
    """A snapshot has no place; `is_full`: it would have one if others left theirs."""

    def __init__(self, reason: str, *, is_full: bool = False) -> None:
        super().__init__(reason)
        self.is_full = is_full


class Line:
    """Thread-safe; `changed` guards what is public here and tells of every change.

    Args:
        spool: where the files of the saves are.
        excuses: whether a save that is dropped stays in line with its excuse, to be told.

    Attributes:
        snapshot: handed over, and not yet written down.
        over: nothing goes into the store any more.
    """

    def __init__(self, spool: Spool, *, excuses: bool) -> None:
        self.changed = threading.Condition()
        self.snapshot: Snapshot | None = None
        self.over = False
        self._spool, self._excuses = spool, excuses
        self._saves: deque[Save] = deque()
        self._sending: Save | None = None

    @property
    def steps(self) -> list[int]:
        """Of the saves written down and not yet sent."""
        with self.changed:
            return [save.step for save in self._saves if not save.excuse]

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is being sent, or nothing ever will be."""
        return self.over or (self.snapshot is None and not self._saves)

    def hand_over(self, snapshot: Snapshot | None) -> None:
        """Put a snapshot before the one who writes it down; None when that is done."""
        with self.changed:
            self.snapshot = snapshot
            self.changed.notify_all()

    def handed_over(self) -> Snapshot | None:
        """Wait for a snapshot to write down; None when it is over."""
        with self.changed:
            self.changed.wait_for(lambda: self.snapshot is not None or self.over)
            return None if self.over else self.snapshot

    def place(self, save: Save, state: State, arrays: dict[str, Arrays], dropped: list[Save]) -> None:
        """Write the arrays of a save, by file name, into the spool, or encode them where it is full.

        Saves that are given up for it are added to `dropped`, each with its excuse.

        Raises:
            NoRoom: there is no room, and the one place in memory is taken.
        """
        while True:
            try:
                save.files = self._written(state, arrays)
                return
            except NoRoom as problem:
                reason = str(problem)
                oldest = self._drop(reason) if problem.is_full else None
            if oldest is None:
                break
            dropped.append(oldest)
        if (oldest := self._drop(reason, in_memory=True)) is not None:
            dropped.append(oldest)
        if self._is_memory_taken():
            raise NoRoom(f"{reason}, and another one is being sent from memory")
        save.files = in_memory(state, arrays)

    def _written(self, state: State, arrays: dict[str, Arrays]) -> list[File]:
        size, limit = size_bytes(arrays), self._spool.limit_bytes
        if not self._spool.fits(size):
            # One that is larger than the spool would not fit without the others either.
            reason = f"{size:,} bytes do not fit into the spool of {limit:,}"
            raise NoRoom(reason, is_full=size <= limit)
        try:
            return self._spool.write(state, arrays)
        except OSError as error:
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise NoRoom(f"the spool cannot be written: {error}", is_full=is_full) from error

    def add(self, save: Save) -> None:
        """Let a save wait for its turn."""
        with self.changed:
            if not self.over:
                self._saves.append(save)
            self.changed.notify_all()

    def first(self) -> Save | None:
        """Wait for a save to send; None when it is over. It stays the first until `done`."""
        with self.changed:
            self.changed.wait_for(lambda: self._saves or self.over)
            self._sending = None if self.over else self._saves[0]
            return self._sending

    def done(self, save: Save) -> None:
        """The first one was sent, or never will be."""
        self._spool.free(save.files)
        with self.changed:
            if self._saves:  # it is empty when it is over
                self._saves.popleft()
            self._sending = None
            self.changed.notify_all()

    def end(self) -> None:
        """It is over: nothing is in line, and nothing will be."""
        with self.changed:
            self.over, self.snapshot = True, None
            rest = [save for save in self._saves if save is not self._sending]
            self._saves.clear()
            self.changed.notify_all()
        for save in rest:
            self._spool.free(save.files)

    def _drop(self, reason: str, *, in_memory: bool = False) -> Save | None:
        """Give up the oldest save that is not being sent (of those in memory); None when there is none."""
        with self.changed:
            waiting = [save for save in self._saves if save is not self._sending and save.files]
            oldest = next((save for save in waiting if save.is_in_memory or not in_memory), None)
            if oldest is None:
                return None
            self._spool.free(oldest.files)
            oldest.files, oldest.excuse = [], f"dropped for a newer one: {reason}"
            if not self._excuses:
                self._saves.remove(oldest)
            return oldest

    def _is_memory_taken(self) -> bool:
        with self.changed:
            return any(save.is_in_memory for save in self._saves)


def written_down(snapshot: Snapshot) -> Save:
    """What stays of a snapshot without its arrays."""
    progress: Mapping[str, Any] = snapshot.state.progress
    return Save(snapshot.step, snapshot.metrics, progress, snapshot.began, snapshot.blocked_s)
