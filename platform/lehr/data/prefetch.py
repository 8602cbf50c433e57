"""A bounded look-ahead: items are made in a background thread while the ones before are used."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")

WAKE_S = 0.05


class Prefetch(Generic[Item]):
    """Iterates over `source`, at most `ahead` items of which wait ready at any time.

    What `source` raises is raised here, in its turn. `close` ends the thread; so does dropping the last
    reference, because the thread holds none to this object. One consumer only.
    """

    def __init__(self, source: Iterator[Item], *, ahead: int) -> None:
        ready: queue.Queue[Any] = queue.Queue(maxsize=ahead)
        closed = threading.Event()
        self._ready, self._closed = ready, closed
        work = (source, ready, closed)
        self._thread = threading.Thread(target=_fill, args=work, name="lehr-feed", daemon=True)
        weakref.finalize(self, closed.set)
        self._thread.start()

    def __iter__(self) -> Prefetch[Item]:
        return self

    def __next__(self) -> Item:
        if self._closed.is_set():
            raise StopIteration
        item: Item | _End = self._ready.get()
        if isinstance(item, _End):
            self.close()
            raise item.error
        return item

    def close(self) -> None:
        """End the thread and drop what waits; iteration is over. Closing twice is fine."""
        self._closed.set()
        self._thread.join()

    def __enter__(self) -> Prefetch[Item]:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _End:
    """The last item: why there are no more."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _fill(source: Iterator[Any], ready: queue.Queue[Any], closed: threading.Event) -> None:
    while not closed.is_set():
        try:
            item: Any = next(source)
        except BaseException as error:  # StopIteration too: each is the consumer's to see
            item = _End(error)
        _put(item, ready, closed)
        if isinstance(item, _End):
            return


def _put(item: Any, ready: queue.Queue[Any], closed: threading.Event) -> None:
    while not closed.is_set():
        try:
            ready.put(item, timeout=WAKE_S)
        except queue.Full:
            continue
        return
