"""Which log `lehr logs` prints, and how it goes on."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lehr import logs, status
from lehr.errors import UserError, letter
from lehr.store import Store, growing

DRIVER_KEY = "logs/driver.log"
POLL_S = 1.0
REMOTE_POLL_S = 3.0
RESTART_S = 30.0  # that a run whose attempt failed may take to begin the next one
QUIET_POLLS = 2  # without news, after the run's end: the last words arrive behind it


@dataclass(frozen=True)
class Log:
    """One log: of a rank in an attempt, or of the driver (rank None, attempt 0)."""

    rank: int | None
    attempt: int

    @property
    def key(self) -> str:
        """Where it is, below the run."""
        return DRIVER_KEY if self.rank is None else logs.key(self.rank, self.attempt)


def choose(folder: Store, rank: int | None, attempt: int | None) -> Log:
    """The log that is asked for; of the newest attempt that has one, if none is named.

    Raises:
        UserError: there is none; the message says which there are.
    """
    if rank is None:
        if growing.size(folder, DRIVER_KEY) is None:
            raise UserError(
                letter("--rank", f"no launcher left a log in {folder.url}", accepted=_said(folder))
            )
        return Log(None, 0)
    kept = logs.kept(folder)
    having = [number for number, ranks in kept.items() if rank in ranks and attempt in (None, number)]
    if having:
        return Log(rank, having[-1])
    came = f"there is no log of rank {rank}" + (f" in attempt {attempt}" if attempt else "")
    where = "--attempt" if attempt and attempt not in kept else "--rank"
    raise UserError(letter(where, f"{came} in {folder.url}", accepted=_said(folder)))


def _said(folder: Store) -> str:
    kept = logs.kept(folder)
    told = [f"attempt {number}: {_ranks(ranks)}" for number, ranks in kept.items()]
    return "; ".join(told) or "none: no worker has left a log yet"


def _ranks(ranks: list[int]) -> str:
    if len(ranks) > 2 and ranks == list(range(ranks[0], ranks[-1] + 1)):
        return f"ranks {ranks[0]} to {ranks[-1]}"
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"


def introduction(folder: Store, log: Log) -> str:
    """Which log it is, if there are several attempts' of it; else nothing."""
    having = [number for number, ranks in logs.kept(folder).items() if log.rank in ranks]
    if len(having) < 2:
        return ""
    return f"== rank {log.rank}, attempt {log.attempt} (there are {', '.join(map(str, having))}) =="


class Following:
    """Reads a log on, into the next attempt if it is not pinned to one.

    Args:
        folder: the run.
        log: where to begin.
        pinned: only this attempt is wanted.
        sleep: waits for so many seconds.
        now: seconds since 1970.
    """

    def __init__(
        self, folder: Store, log: Log, *, pinned: bool,
        sleep: Callable[[float], None] = time.sleep, now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.log = log
        self._folder, self._pinned, self._sleep, self._now = folder, pinned, sleep, now
        self._poll_s = POLL_S if folder.local_path(log.key) is not None else REMOTE_POLL_S
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def begin(self, lines: int | None) -> Iterator[str]:
        """What is there, or its last lines."""
        if lines is None:
            yield self._news()
            return
        data, self._offset = logs.last(self._folder, self.log.key, lines)
        yield self._decoder.decode(data)

    def rest(self, changed: Callable[[], None]) -> Iterator[str]:
        """What comes, until the run has ended; `changed` is called when another attempt's log begins."""
        quiet = 0
        while quiet < QUIET_POLLS:
            over = self._is_over()  # before the look at the log: what is printed before the end is shown
            news = self._news()
            yield news
            if not news and self._go_on():
                changed()
                continue
            quiet = quiet + 1 if over and not news else 0
            if quiet < QUIET_POLLS:
                self._sleep(self._poll_s)

    def _news(self) -> str:
        data = growing.read(self._folder, self.log.key, self._offset)
        self._offset += len(data)
        return self._decoder.decode(data)

    def _go_on(self) -> bool:
        """Turn to the next attempt's log, if there is one."""
        if self._pinned or self.log.rank is None:
            return False
        later = [number for number, ranks in logs.kept(self._folder).items()
                 if number > self.log.attempt and self.log.rank in ranks]  # fmt: skip
        if not later:
            return False
        self.log, self._offset = Log(self.log.rank, later[0]), 0
        self._decoder.reset()
        return True

    def _is_over(self) -> bool:
        """Whether nothing more is to be expected."""
        told = status.read(self._folder)
        if told is None:
            return False
        if self._pinned and told.attempt > self.log.attempt:
            return True
        if told.status == "failed":
            return self._now() - told.time > RESTART_S
        return told.status not in status.ALIVE or told.silent_s(self._now()) is not None
