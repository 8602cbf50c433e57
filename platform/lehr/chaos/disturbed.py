"""A store that fails while a fault lasts, and else does what it is asked.

The faults lie between lehr and its store, so they are the same for a folder and for every object store. As
with an object store, what fails has changed nothing; only `lost` does it and loses the answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from lehr.chaos.board import Board
from lehr.chaos.faults import KINDS, Outage
from lehr.errors import StorageDenied, StorageError
from lehr.store import Store

PATIENCE_S = 60.0  # of a client whose connection hangs
POLL_S = 0.05
T = TypeVar("T")
Names = list[str]


class Windows:
    """Which faults of the store are open at the moment, in whatever process they began.

    Args:
        board: tells when each began.
        rank: of this process.
        sleep: waits for so many seconds.
    """

    def __init__(self, board: Board, *, rank: int, sleep: Callable[[float], None] = time.sleep) -> None:
        self.sleep, self._board, self._rank = sleep, board, rank
        self._outages = [(i, each) for i, each in enumerate(board.faults) if isinstance(each, Outage)]

    def open(self) -> Iterator[tuple[int, Outage]]:
        """The faults that last at this moment, with their numbers."""
        return ((index, outage) for index, outage in self._outages if self.left_s(index, outage) > 0)

    def left_s(self, index: int, outage: Outage) -> float:
        """For how long the fault will last; 0 when it is over or has not begun."""
        return self._board.left_s(index, outage.duration_s)

    def note(self, index: int, verb: str, key: str, *, waited_s: float = 0.0) -> None:
        """Keep that a call suffered from the fault."""
        self._board.note(index, rank=self._rank, verb=verb, key=key, waited_s=round(waited_s, 3))


class Disturbed:
    """`store`, as the faults leave it.

    Args:
        store: where everything is.
        windows: when it fails.
    """

    def __init__(self, store: Store, windows: Windows) -> None:
        self._store, self._windows = store, windows

    @property
    def url(self) -> str:
        return self._store.url

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        return self._suffer("read", key, lambda: self._store.read(key, start, end), len)

    def write(self, key: str, data: bytes) -> None:
        self._suffer("write", key, lambda: self._store.write(key, data), lambda _: len(data))

    def put(self, key: str, file: Path) -> None:
        self._suffer("put", key, lambda: self._store.put(key, file), lambda _: file.stat().st_size)

    def create(self, key: str, data: bytes) -> bool:
        return self._suffer("create", key, lambda: self._store.create(key, data), lambda _: len(data))

    def append(self, key: str, data: bytes) -> None:
        self._suffer("append", key, lambda: self._store.append(key, data), lambda _: len(data))

    def list(self, prefix: str = "") -> Names:
        return self._suffer("list", prefix, lambda: self._store.list(prefix))

    def folders(self, prefix: str = "") -> Names:
        return self._suffer("list", prefix, lambda: self._store.folders(prefix))

    def size(self, key: str) -> int | None:
        return self._suffer("size", key, lambda: self._store.size(key))

    def delete(self, key: str) -> None:
        self._suffer("delete", key, lambda: self._store.delete(key))

    def below(self, prefix: str) -> Store:
        return Disturbed(self._store.below(prefix), self._windows)

    def local_path(self, key: str) -> Path | None:
        return self._store.local_path(key)  # logs and W&B's files go there by themselves, past the faults

    def _suffer(self, verb: str, key: str, do: Callable[[], T], weigh: Callable[[T], int] = lambda _: 0) -> T:
        """Do it as far as the open faults let it be done.

        Args:
            verb: what is done.
            key: to what.
            do: does it.
            weigh: bytes that travelled, from the answer.
        """
        slow: Sequence[tuple[int, Outage]] = []
        lost: int | None = None
        for index, outage in self._windows.open():
            if outage.kind == "slow":
                slow = [*slow, (index, outage)]
            elif outage.kind == "lost":
                lost = index
            elif outage.kind == "hang":
                self._hang(index, outage, verb, key)
            else:
                self._windows.note(index, verb, key)
                raise self._error(outage.kind, verb, key)
        began = time.monotonic()
        answer = do()
        for index, outage in slow:
            self._dawdle(index, outage, (verb, key), weigh(answer), time.monotonic() - began)
        if lost is not None:
            self._windows.note(lost, verb, key)
            raise self._error("lost", verb, key)
        return answer

    def _hang(self, index: int, outage: Outage, verb: str, key: str) -> None:
        """Say nothing until the fault is over, or until the client has lost its patience."""
        waited_s = 0.0
        while waited_s < PATIENCE_S and self._windows.left_s(index, outage) > 0:
            self._windows.sleep(POLL_S)
            waited_s += POLL_S
        self._windows.note(index, verb, key, waited_s=waited_s)
        if self._windows.left_s(index, outage) > 0:
            raise self._error("hang", verb, key)

    def _dawdle(self, index: int, outage: Outage, call: tuple[str, str], size: int, took_s: float) -> None:
        """Take as long as the slow store would have: at least what its bytes need."""
        wanted_s = size / outage.rate if outage.rate else took_s * outage.factor
        rest_s = min(max(0.0, wanted_s - took_s), self._windows.left_s(index, outage))
        self._windows.note(index, *call, waited_s=rest_s)
        self._windows.sleep(rest_s)

    def _error(self, kind: str, verb: str, key: str) -> StorageError:
        error = StorageDenied if kind == "403" else StorageError
        return error(f"{self.url}/{key}: could not {verb} it: {KINDS[kind]} (a fault that was asked for)")
