"""Keeps a sweep's folder fresh while its trials run, and hears who wants it to end."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lehr import index, status
from lehr.errors import StorageError, Superseded
from lehr.launch import entrance, stopping
from lehr.launch.desk import Desk, View
from lehr.status import Status
from lehr.sweep import results
from lehr.sweep.records import History

if TYPE_CHECKING:
    from lehr.fence import Fence
    from lehr.store import Store

BEAT_S = 0.5
STATUS_S = 5.0
RESULTS_S = 30.0
LISTEN_S = 2.0  # between two looks for a wish to stop, where keys are no files
ASKED = "it was asked to stop"
CLOSE_S = 30.0  # that the last words may take where the storage fails
RETRY_S = 1.0


class Keeper:
    """A thread beside the engine, for status, index, results, live view, wishes to stop, fence and budget.

    Args:
        desk: of the sweep.
        storage: where runs and sweeps are.
        attempt: this launch of the sweep.
        fence: closed, nothing is written any more.
        watch: takes a view, a few times a second.
        wish: why the sweep is to stop, in words; "" while nobody wants it to.
    """

    def __init__(
        self, desk: Desk, storage: Store, attempt: int, fence: Fence, *,
        watch: Callable[[View], None], wish: Callable[[], str],
    ) -> None:  # fmt: skip
        program = desk.program
        self._desk, self._folder, self._attempt, self._fence = (
            desk,
            storage.below(program.run_id),
            attempt,
            fence,
        )
        self._watch, self._wish = watch, wish
        self._index = index.Writer(storage, program.run_id)
        self._listen_s = BEAT_S if self._folder.local_path(stopping.KEY) is not None else LISTEN_S
        now = time.monotonic()
        self._due = {"listen": now, "status": now, "results": now + RESULTS_S}
        self._has_complained = False
        self._rows = -1  # events that the results tell of
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lehr-keeper", daemon=True)

    def __enter__(self) -> Keeper:
        self._try("starting")
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._end.set()
        self._thread.join(CLOSE_S)  # a call to the store that hangs stays behind

    def _run(self) -> None:
        while not self._end.wait(BEAT_S):
            self._try("running")

    def _try(self, word: str) -> None:
        """A beat; what cannot be shown or written down must not make the sweep deaf to Ctrl-C."""
        try:
            self._beat(word)
        except Exception as error:
            if not self._has_complained:
                print(f"lehr: what is told of the sweep fails: {error!r}", file=sys.stderr, flush=True)
            self._has_complained = True

    def _beat(self, word: str) -> None:
        self._hear()  # before anything that may fail
        view = self._desk.view()
        # What storage does not take now, it may take at the next beat.
        with contextlib.suppress(StorageError):
            self._check()
            if self._is_due("status", STATUS_S):
                self.tell("queued" if view.waiting and not view.running else word, view, view.waiting)
        self._watch(view)
        with contextlib.suppress(StorageError):
            if not self._desk.lost and self._is_due("results", RESULTS_S):
                self.write_results(view.history)

    def _is_due(self, what: str, period_s: float) -> bool:
        now = time.monotonic()
        if now < self._due[what]:
            return False
        self._due[what] = now + period_s
        return True

    def _hear(self) -> None:
        """A wish to stop: of whoever started the sweep, or in its folder."""
        if why := self._wish():
            self._desk.stop(why)
        with contextlib.suppress(StorageError):
            if self._is_due("listen", self._listen_s) and self._folder.size(stopping.KEY) is not None:
                self._desk.stop(ASKED)

    def _check(self) -> None:
        try:
            self._fence.check()
        except Superseded as error:
            self._desk.lose(error)
            raise StorageError("the folder is another driver's") from error

    # --- what is written --------------------------------------------------------------------------

    def tell(self, word: str, view: View, message: str = "") -> None:
        """Write the status and the sweep's entry in the index: steps are trials.

        Raises:
            StorageError: the store does not take it.
        """
        over = sum(trial.over for trial in view.history.trials.values())
        said = status.write(self._folder, Status(word, over, view.wanted, self._attempt, message))
        best = _best(view.history, self._desk.program.search.mode)
        metric = None if best is None else (self._desk.program.search.metric, best)
        self._index.tell(said, checkpoint=index.SWEEP, metric=metric)

    def write_results(self, history: History) -> None:
        """Write one row a trial, unless nothing has happened since.

        Raises:
            StorageError: the store does not take it.
        """
        told = sum(1 + len(one.reports) + (one.outcome is not None) for trial in history.trials.values()
                   for one in trial.segments)  # fmt: skip
        if told != self._rows:
            results.write(self._desk.program, history, self._folder)
            self._rows = told

    def finish(self, word: str, message: str = "") -> None:
        """The last words, after the block; tried again for a while where the storage fails."""
        until, view = time.monotonic() + CLOSE_S, self._desk.view()
        self._watch(view)
        while not self._is_told(word, view, message) and time.monotonic() < until:
            time.sleep(RETRY_S)

    def _is_told(self, word: str, view: View, message: str) -> bool:
        """Whether the last words are stored, or are no longer ours to say."""
        try:
            self._fence.check()
            self.write_results(view.history)
            self.tell(word, view, message)
            entrance.leave(self._folder)
        except Superseded:
            return True
        except StorageError:
            return False
        return True


def _best(history: History, mode: str) -> float | None:
    found = results.ranking(history, mode)
    return found[0].best(mode) if found else None
