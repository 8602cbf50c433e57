"""Waiting for a run in the foreground: signals ask for a clean stop, a second one ends all at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Generic, TypeVar

import psutil

from lehr.errors import StorageError
from lehr.launch import stopping
from lehr.store import Store

if TYPE_CHECKING:
    from lehr.worker.outcome import Outcome

BEAT_S = 0.25
ASK_S = 2.0  # between two tries to ask a run to stop
T = TypeVar("T")


class Work(Generic[T]):
    """A function in a thread of its own, whose answer or exception is fetched later.

    The thread lives until the work is done: Ray's processes end with the thread that started them.
    """

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._answer: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="lehr-launch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._answer.append(self._function())
        except BaseException as error:
            self._error = error

    def done(self, *, within_s: float) -> bool:
        """Whether it is done, waiting a little for it."""
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def answer(self) -> T:
        """What it returned.

        Raises:
            BaseException: what it raised.
        """
        if self._error is not None:
            raise self._error
        return self._answer[0]


class Signals:
    """SIGINT and SIGTERM of this process while a run trains.

    Args:
        run: the run's folder.
        say: tells the user.
    """

    def __init__(self, run: Store, say: Callable[[str], None]) -> None:
        self._run, self._say = run, say
        self._asking: threading.Thread | None = None
        self.number: int | None = None  # of the first signal
        self.over = threading.Event()  # the work is done: nobody need be asked any more

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            self._say("killed; what was done since the last checkpoint is lost")
            end_at_once(128 + number)
        self.number = number
        self._say("stopping: finishing the step and making a checkpoint; once more kills at once")
        # Storage may be slow, and the second signal must be heard meanwhile.
        self._asking = threading.Thread(target=self._ask, daemon=True)
        self._asking.start()

    def _ask(self) -> None:
        has_complained = False
        while not self.over.is_set():
            try:
                stopping.ask(self._run)
                return
            except StorageError as error:
                if not has_complained:
                    self._say(
                        f"storage does not take the wish to stop yet ({error}); once more kills at once"
                    )
                has_complained = True
            self.over.wait(ASK_S)


def end_at_once(code: int) -> None:
    """Kill every process that this one started, and end."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    os._exit(code)


@contextlib.contextmanager
def _handling(handler: Signals) -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, handler) for number in numbers]
    try:
        yield
    finally:
        for number, old in zip(numbers, before, strict=True):
            signal.signal(number, old)


def drive(
    work: Callable[[], Outcome], run: Store, *, tick: Callable[[], None], say: Callable[[str], None]
) -> tuple[Outcome, int | None]:
    """Run `work` to its end; to be called in the main thread.

    Args:
        work: trains, and returns when it is done or was stopped.
        run: the run's folder.
        tick: called a few times a second.
        say: tells the user something at once.

    Returns:
        The outcome, and the number of the signal that asked for a stop, if one did.
    """
    signals = Signals(run, say)
    with _handling(signals):
        working = Work(work)
        while not working.done(within_s=BEAT_S):
            tick()
    signals.over.set()
    if signals.number is not None:
        with contextlib.suppress(StorageError):  # the next start does it, too
            stopping.clear(run)
    return working.answer(), signals.number
