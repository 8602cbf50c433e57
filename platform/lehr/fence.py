"""Whether this attempt at a run is still the last one: an old one that wakes up may change nothing.

Attempts are claimed in turn, each by creating its own journal file (`journal.claim_attempt`), which of
several can succeed for one only. So attempt n is over for good as soon as the file of attempt n + 1 is there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from lehr import journal
from lehr.errors import StorageError, Superseded, letter
from lehr.store import Store
from lehr.store.store import Names

FRESH_S = 5.0  # how old an answer may be that is still believed; a frozen process has none as young


class Fence:
    """Asks the store whether a later attempt has begun. Thread-safe.

    Args:
        store: the run's folder.
        attempt: this life of the run.
        fresh_s: how long an answer holds.
        now: seconds, from any moment on; a clock that goes on while the process is frozen.

    Attributes:
        closed: whether a later attempt was seen; it stays so.
    """

    def __init__(
        self,
        store: Store,
        attempt: int,
        *,
        fresh_s: float = FRESH_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.closed = False
        self._store, self._attempt, self._fresh_s, self._now = store, attempt, fresh_s, now
        self._asked = -float("inf")
        self._lock = threading.Lock()

    def check(self, *, fresh: bool = False) -> None:
        """Return if this attempt is the last one.

        Args:
            fresh: ask the store now, however young the last answer is.

        Raises:
            Superseded: a later attempt has begun.
            StorageError: the store cannot tell.
        """
        with self._lock:
            if not self.closed and (fresh or self._now() - self._asked > self._fresh_s):
                asked = self._now()
                self.closed = self._has_successor()
                self._asked = asked
        if self.closed:
            came = f"attempt {self._attempt} is over: a later attempt at this run has begun"
            raise Superseded(letter(self._store.url, came, do="end this process; the other goes on"))

    def _has_successor(self) -> bool:
        try:
            return self._store.size(journal.key(self._attempt + 1)) is not None
        except StorageError as error:
            raise type(error)(f"could not ask whether a later attempt has begun: {error}") from error


class Fenced:
    """A store whose every change asks the fence first, for writers of several keys in turn."""

    def __init__(self, store: Store, fence: Fence) -> None:
        self._store, self._fence = store, fence

    @property
    def url(self) -> str:
        return self._store.url

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        return self._store.read(key, start, end)

    def write(self, key: str, data: bytes) -> None:
        self._fence.check()
        self._store.write(key, data)

    def put(self, key: str, file: Path) -> None:
        self._fence.check()
        self._store.put(key, file)

    def create(self, key: str, data: bytes) -> bool:
        self._fence.check()
        return self._store.create(key, data)

    def append(self, key: str, data: bytes) -> None:
        self._fence.check()
        self._store.append(key, data)

    def list(self, prefix: str = "") -> Names:
        return self._store.list(prefix)

    def folders(self, prefix: str = "") -> Names:
        return self._store.folders(prefix)

    def size(self, key: str) -> int | None:
        return self._store.size(key)

    def delete(self, key: str) -> None:
        self._fence.check()
        self._store.delete(key)

    def below(self, prefix: str) -> Store:
        return Fenced(self._store.below(prefix), self._fence)

    def local_path(self, key: str) -> Path | None:
        return self._store.local_path(key)
