"""A store that keeps trying: what fails now may succeed in a minute."""

from __future__ import annotations

import copy
import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lehr.errors import KeyMissing, StorageDenied, StorageError
from lehr.store.store import Names, Store

Answer = TypeVar("Answer")
DENIED_S = 60.0  # that a refusal is borne before there is anything to lose: it is mostly a mistake


@dataclass(frozen=True)
class Clock:
    """How time passes; tests bring their own.

    Attributes:
        now: seconds, from any moment on.
        sleep: waits seconds.
        random: a number in [0, 1).
    """

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = random.random


CLOCK = Clock()


class Patient:
    """A Store that tries again, with pauses that grow and vary, until it has been patient long enough.

    A call takes at most `patience_s` and the time of one try; then it raises the last error. A refusal is
    tried again, too: tokens rotate, and proxies say 403 for a while. `create` and `append` find out whether
    a try whose answer was lost has worked, so that nothing is claimed in vain or added twice; for that,
    what is created must differ from what anybody else would create there.

    Args:
        store: the store that is asked.
        patience_s: how long a call may take, in seconds.
        tell: called with one sentence when an outage begins, and with one when it ends; from any thread.
        pause_s: the first pause's bound and every pause's; each is drawn evenly from 0 to its bound.
        denied_s: how long a StorageDenied is tried again, at most.
        clock: how time passes.
    """

    def __init__(
        self,
        store: Store,
        *,
        patience_s: float = 120.0,
        tell: Callable[[str], None] | None = None,
        pause_s: tuple[float, float] = (0.1, 10.0),
        denied_s: float = math.inf,
        clock: Clock = CLOCK,
    ) -> None:
        self._store = store
        outage = _Outage(store.url, tell, clock)
        self._insistence = _Insistence(patience_s, denied_s, pause_s, clock, outage)

    @property
    def url(self) -> str:
        return self._store.url

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        return self._insistence.on(lambda: self._store.read(key, start, end))

    def write(self, key: str, data: bytes) -> None:
        self._insistence.on(lambda: self._store.write(key, data))

    def put(self, key: str, file: Path) -> None:
        self._insistence.on(lambda: self._store.put(key, file))

    def create(self, key: str, data: bytes) -> bool:
        return self._insistence.on(_Creation(self._store, key, data))

    def append(self, key: str, data: bytes) -> None:
        self._insistence.on(_Addition(self._store, key, data))

    def list(self, prefix: str = "") -> Names:
        return self._insistence.on(lambda: self._store.list(prefix))

    def folders(self, prefix: str = "") -> Names:
        return self._insistence.on(lambda: self._store.folders(prefix))

    def size(self, key: str) -> int | None:
        return self._insistence.on(lambda: self._store.size(key))

    def delete(self, key: str) -> None:
        self._insistence.on(lambda: self._store.delete(key))

    def below(self, prefix: str) -> Store:
        inner = copy.copy(self)  # one patience, one outage
        inner._store = self._store.below(prefix)
        return inner

    def local_path(self, key: str) -> Path | None:
        return self._store.local_path(key)


@dataclass
class _Creation:
    """Tries to create; looks first, so that what is there after a try that failed can only be new."""

    store: Store
    key: str
    data: bytes
    tried: bool = False

    def __call__(self) -> bool:
        again = self.tried
        if self.store.size(self.key) is not None:
            return again and self._is_ours()
        self.tried = True
        return self.store.create(self.key, self.data) or (again and self._is_ours())

    def _is_ours(self) -> bool:
        try:
            return self.store.read(self.key) == self.data
        except KeyMissing as error:
            raise StorageError(f"{error}, although it was there a moment ago") from error


@dataclass
class _Addition:
    """Tries to append; from the second try on, looks first whether the one before has worked."""

    store: Store
    key: str
    data: bytes
    before: int | None = None  # bytes
    tried: bool = False

    def __call__(self) -> None:
        length = self.store.size(self.key) or 0
        if self.before is None:
            self.before = length
        elif self.tried and length == self.before + len(self.data):
            return
        if length != self.before:
            raise StorageError(
                f"{self.store.url}/{self.key}: {length} bytes, not {self.before}: who writes it?"
            )
        self.tried = True
        self.store.append(self.key, self.data)


@dataclass
class _Insistence:
    patience_s: float
    denied_s: float
    pause_s: tuple[float, float]
    clock: Clock
    outage: _Outage

    def on(self, action: Callable[[], Answer]) -> Answer:
        until, denied_until = self.clock.now() + self.patience_s, math.inf
        bound, most = self.pause_s
        while True:
            try:
                answer = action()
            except StorageError as error:
                if isinstance(error, KeyMissing):
                    self.outage.end()
                else:
                    self.outage.begin(error)
                now = self.clock.now()
                if isinstance(error, StorageDenied):
                    denied_until = min(denied_until, now + self.denied_s)
                else:
                    denied_until = math.inf
                left = min(until, denied_until) - now
                if isinstance(error, KeyMissing) or left <= 0:
                    raise
            else:
                self.outage.end()
                return answer
            self.clock.sleep(min(self.clock.random() * bound, left))
            bound = min(2 * bound, most)


class _Outage:
    """Says once that the store fails, and once that it answers again."""

    def __init__(self, url: str, tell: Callable[[str], None] | None, clock: Clock) -> None:
        self._url, self._tell, self._clock = url, tell or (lambda text: None), clock
        self._since: float | None = None
        self._lock = threading.Lock()

    def begin(self, error: StorageError) -> None:
        with self._lock:
            if self._since is not None:
                return
            self._since = self._clock.now()
        self._tell(f"storage fails, trying again: {error}")

    def end(self) -> None:
        if self._since is None:  # as a rule; the lock is for the rest
            return
        with self._lock:
            if self._since is None:
                return
            lasted, self._since = self._clock.now() - self._since, None
        self._tell(f"{self._url}: storage answers again, after {lasted:.0f} s")
