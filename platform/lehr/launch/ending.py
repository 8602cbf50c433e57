"""The wish that a run end at once: a word in its store, which its driver listens for.

A wish to stop (`stopping`) is heard by rank 0, which finishes its step and leaves a checkpoint. This one is
heard by the driver, wherever it is, and kills.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from lehr.errors import StorageError
from lehr.launch import stopping
from lehr.launch.driver import end_at_once
from lehr.store import Store

NOW, DONE = b"now\n", b"killed\n"
CODE = 137  # 128 + SIGKILL, as shells count
LISTEN_S = 3.0


def ask_now(run: Store) -> None:
    """Ask the driver of the run in this folder to kill it."""
    run.write(stopping.KEY, NOW)


def is_done(run: Store) -> bool:
    """Whether a driver answered that by its end."""
    return _word(run) == DONE


@contextlib.contextmanager
def listening(run: Store, say: Callable[[str], None]) -> Iterator[None]:
    """During the block, end this process and its workers when that is asked of the run."""
    over = threading.Event()
    threading.Thread(target=_listen, args=(run, say, over), name="lehr-ending", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _listen(run: Store, say: Callable[[str], None], over: threading.Event) -> None:
    while not over.wait(LISTEN_S):
        if _word(run) == NOW and not over.is_set():
            say("killed by `lehr stop --now`; what was done since the last checkpoint is lost")
            with contextlib.suppress(StorageError):
                run.write(stopping.KEY, DONE)
            end_at_once(CODE)


def _word(run: Store) -> bytes:
    """What is in the place of a wish; nothing when there is none, or storage does not tell."""
    try:
        return run.read(stopping.KEY)
    except StorageError:
        return b""
