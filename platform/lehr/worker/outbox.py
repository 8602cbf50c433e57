"""What a worker writes beside checkpoints, sent in order from a thread of its own: a slow or failing store
holds up no step."""

from __future__ import annotations

import collections
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from lehr.errors import LehrError, StorageError

PATIENCE_S = 1800.0
PAUSE_S = (0.2, 15.0)  # between two tries: the first pause's bound and every pause's
LIMIT = 32  # sets of samples that may wait; one is a few megabytes


@dataclass(frozen=True)
class Item:
    """Something to send.

    Args:
        send: does it, and may be called again after a StorageError; other errors are for good.
        failed: told why, then; it must not raise.
    """

    send: Callable[[], None]
    failed: Callable[[str], None]


class Outbox:
    """Sends items one after the other. When too many wait, the oldest is given up.

    An item that the storage does not take is tried again, for as long as the storage takes nothing at all;
    where it takes other things, for `patience_s`.

    Args:
        is_out: whether the storage takes nothing at the moment, as far as others know.
        patience_s: see above.
        limit: items that may wait.

    Attributes:
        is_open: whether it was not closed yet.
    """

    def __init__(
        self, is_out: Callable[[], bool] = bool, *, patience_s: float = PATIENCE_S, limit: int = LIMIT
    ) -> None:
        self._is_out, self._patience_s = is_out, patience_s
        self._sending: Item | None
        self._items: collections.deque[Item] = collections.deque()
        self._limit, self._sending, self.is_open = limit, None, True
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="lehr-outbox", daemon=True)
        self._thread.start()

    def add(self, item: Item) -> None:
        """Send it as soon as those before it are sent."""
        given_up = None
        with self._changed:
            if len(self._items) >= self._limit:
                given_up = self._items.popleft()
            self._items.append(item)
            self._changed.notify_all()
        if given_up is not None:
            given_up.failed(f"more than {self._limit} were waiting for the storage")

    def empty(self, timeout_s: float | None = None) -> bool:
        """Wait until nothing waits or is being sent; whether that came true in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._items and not self._sending, timeout_s)

    def close(self, timeout_s: float) -> None:
        """Send the rest, for so long, and end. What is not sent then is told as failed."""
        self.empty(timeout_s)
        with self._changed:
            self.is_open = False
            left = [*([self._sending] if self._sending else []), *self._items]
            self._items.clear()
            self._changed.notify_all()
        for item in left:
            item.failed("the worker ended before the storage took it")

    def _run(self) -> None:
        while (item := self._next()) is not None:
            reason = self._sent(item)
            if reason and self.is_open:  # else `close` has told it
                item.failed(reason)
            with self._changed:
                self._sending = None
                self._changed.notify_all()

    def _sent(self, item: Item) -> str:
        """Send it; why it failed for good, or ""."""
        since, bound_s = time.monotonic(), PAUSE_S[0]
        while True:
            try:
                item.send()
                return ""
            except StorageError as error:
                now = time.monotonic()
                since = now if self._is_out() else since
                if now - since > self._patience_s or not self.is_open:
                    return str(error)
            except LehrError as error:
                return str(error)
            except Exception as error:  # whatever it is, the thread goes on
                return f"{type(error).__name__}: {error}"
            with self._changed:
                self._changed.wait_for(lambda: not self.is_open, random.uniform(0.0, bound_s))
            bound_s = min(2.0 * bound_s, PAUSE_S[1])

    def _next(self) -> Item | None:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._items) or not self.is_open)
            self._sending = self._items.popleft() if self.is_open else None
            return self._sending
