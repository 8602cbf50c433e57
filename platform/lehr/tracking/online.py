"""A tracker that follows the journal: it never holds up training, and what it misses it reads again.

Only entries that the journal has stored reach it. So it keeps nothing of its own: while W&B cannot be
reached, entries are let go; once it can be, the rows that it lacks are read from the run's journal and sent,
then the live ones. What is still missing at the end, `lehr track sync` sends.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from lehr import journal
from lehr.errors import LehrError, Superseded, UserError
from lehr.journal import Entry
from lehr.plan import Plan
from lehr.store import Store
from lehr.tracking import replay
from lehr.tracking.sending import Files, Refused, Sender, Unsent, lacking
from lehr.tracking.sending import Session as Rows

Tell = Callable[[str], object]


@dataclass(frozen=True)
class Limits:
    """How long things may take, in seconds, and how much may wait.

    Beginning, finishing and asking once what arrived fit into the time that the end of a run waits.

    Args:
        init_s: to reach the server.
        finish_s: to send the rest at the end.
        answer_s: for the server to say how many rows it has.
        close_s: that the end of a run waits in all.
        retry_s: between two tries, at first and at most; half as much again by chance.
        refused_s: between two tries with a key that the server does not take.
        check_s: between two questions how many rows have arrived.
        stalled_s: after which, without another row arriving, the connection is made anew.
        waiting: entries kept for a connection that is slow; beyond, they are read from the journal again.
    """

    init_s: float = 12.0
    finish_s: float = 12.0
    answer_s: float = 5.0
    close_s: float = 45.0
    retry_s: tuple[float, float] = (30.0, 300.0)
    refused_s: float = 3600.0
    check_s: float = 60.0
    stalled_s: float = 300.0
    waiting: int = 10_000


class Server(Files, Protocol):
    """What is asked beside what is being sent."""

    def rows(self) -> int: ...
    def checkpoints(self) -> set[str]: ...


class Session(Rows, Protocol):
    """One life of the tracker's client."""

    def server(self) -> Server: ...
    def finish(self, exit_code: int) -> None: ...
    def close(self) -> None: ...


class Client(Protocol):
    """Begins sessions."""

    def begin(self, plan: Plan) -> Session: ...
    def kill(self) -> None: ...


class Online:
    """Sends the journal, from a thread of its own.

    Args:
        run: the run's folder.
        client: begins a session, and ends all at once.
        tell: takes what the user should know, in words, from any thread; it must not raise.
        limits: of time.

    Attributes:
        problem: why rows are missing at the moment; None when none are.
    """

    def __init__(self, run: Store, client: Client, *, tell: Tell, limits: Limits | None = None) -> None:
        self.problem: Exception | None = None
        self._run, self._client, self._tell, self._limits = run, client, tell, limits or Limits()
        self._plan: Plan | None = None
        self._attempt = 0
        self._there: int | None = None  # rows that W&B had when it was last asked; None: not known
        self._exact = True  # nothing was sent since
        self._entries: list[Entry] = []
        self._missed = True  # entries were let go: the journal is to be read
        self._closing = self._ending = self._said = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="lehr-tracker", daemon=True)

    # --- what training calls: none of it waits, but for the end -------------------------------------

    def start(self, plan: Plan, attempt: int) -> None:
        self._plan, self._attempt = plan, attempt
        self._there = 0 if attempt == 1 else None
        self._thread.start()

    def record(self, entry: Entry) -> None:
        with self._changed:
            if not self._missed:
                self._entries.append(entry)
            if len(self._entries) > self._limits.waiting:
                self._let_go()
            self._changed.notify_all()

    def close(self) -> None:
        """Wait until W&B has all of it, at most `close_s` seconds."""
        if self._plan is None:
            return
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(self._limits.close_s)
        if self._thread.is_alive():
            self._ending = self._said = True  # no other try, nothing more to say
            self._client.kill()  # or the process would wait for it
            self._tell(self._lacks(f"it took more than {self._limits.close_s:g} s"))

    # --- its thread ---------------------------------------------------------------------------------

    def _work(self) -> None:
        pause_s, longest_s = self._limits.retry_s
        while True:
            last = self._closing  # the run is over: one more try, and no other
            try:
                self._serve()
                return
            except Exception as error:  # whatever it is, training goes on
                self._fail(error)
            if isinstance(self.problem, Superseded):
                return
            if last or self._ending:
                break
            refused = isinstance(self.problem, Refused | UserError)
            self._wait(self._limits.refused_s if refused else pause_s * random.uniform(1.0, 1.5))
            if refused and self._closing:
                break
            pause_s = min(2 * pause_s, longest_s)
        if not self._said:
            self._tell(self._lacks(reason(self.problem), self._lacking()))

    def _serve(self) -> None:
        """One session, until the end of the run or of the session."""
        self._alone()
        with self._changed:
            self._entries, self._missed = [], False  # from now on they are kept
        session = self._client.begin(self._plan)  # type: ignore[arg-type]
        try:
            self._there, self._exact = session.rows, False
            known = session.server().checkpoints() if session.rows else set()
            sender = Sender(self._run, session, known)
            entries = list(replay.entries(self._run, until=self._attempt))
            for entry in entries:
                sender.take(entry)
            self._complete(session, entries)
            self._recover()
            self._follow(session, sender)
            self._ending = True
            self._finish(session, sender)
        finally:
            session.close()

    def _complete(self, session: Session, entries: list[Entry]) -> None:
        """Send pictures whose rows were there before and whose files were not: their sender was killed."""
        if not session.rows:
            return
        server = session.server()
        before = (row for row in replay.rows(entries) if row.number < session.rows)
        missing = lacking(self._run, before, server)
        if missing:
            server.upload((name, self._run.read(key)) for name, key in missing.items())

    def _alone(self) -> None:
        """Raise Superseded if a later attempt has begun: it sends what there is to send."""
        if journal.latest_attempt(self._run) > self._attempt:
            raise Superseded("a later attempt has begun")

    def _follow(self, session: Session, sender: Sender) -> None:
        """Send live entries until the run is over."""
        watch = Watch(self._limits, sender.count)
        while True:
            entries, missed, closing = self._next(watch.due_s())
            if missed:
                entries = journal.read_attempt(self._run, self._attempt)
            for entry in entries:
                sender.take(entry)
            if closing and not entries:
                return
            if not closing and watch.due_s() <= 0.0:
                self._look(session, watch, sender.count)

    def _look(self, session: Session, watch: Watch, count: int) -> None:
        """Ask what has arrived.

        Raises:
            Refused: the key is no longer taken.
            Unsent: nothing arrives.
        """
        try:
            self._there = session.server().rows()
        except Refused:
            raise
        except Exception as error:  # its client goes on trying by itself
            self._trouble(error)
            watch.unknown()
            return
        if watch.seen(self._there, count):
            self._recover()

    def _finish(self, session: Session, sender: Sender) -> None:
        self._there = None
        try:
            session.finish(sender.exit_code)
        finally:
            self._there = arrived(session.server(), sender.count, self._limits.answer_s)
            self._exact = True
        if self._there < sender.count:
            raise Unsent("not all of it had arrived")

    def _next(self, timeout_s: float) -> tuple[list[Entry], bool, bool]:
        """What came since, whether some was let go, and whether the run is over."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._entries or self._missed or self._closing, max(0.0, timeout_s)
            )
            entries, missed = self._entries, self._missed
            self._entries, self._missed = [], False
            return entries, missed, self._closing

    def _let_go(self) -> None:
        self._entries, self._missed = [], True

    def _wait(self, timeout_s: float) -> None:
        with self._changed:
            self._let_go()
            self._changed.wait_for(lambda: self._closing, timeout_s)

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._let_go()
        self._trouble(error)

    def _trouble(self, error: Exception) -> None:
        """Say it, once for each trouble."""
        known, self.problem = self.problem, error
        if self._closing or (known is not None and isinstance(error, type(known))):
            return
        refused = isinstance(error, Refused | UserError)
        then = f"with a key: {self._sync}" if refused else "it is tried again"
        self._tell(f"W&B is behind: {reason(error)}; training and the journal go on; {then}")

    def _recover(self) -> None:
        if self.problem is not None:
            self.problem = None
            self._tell("W&B is reached again, and is sent what it lacked")

    @property
    def _sync(self) -> str:
        """The command that sends what is missing."""
        return f"lehr track sync {self._plan.run_id if self._plan is not None else ''}"

    def _lacks(self, why: str, lacking: int | None = None) -> str:
        """What is missing, and what sends it."""
        up_to = "" if self._exact else "up to "
        what = f"lacks {up_to}{lacking:,} rows" if lacking else "may lack rows"
        if lacking == 0:
            what = "has all rows, but perhaps not all pictures and checkpoints,"
        return f"W&B {what} of run {self._sync.split()[-1]} ({why}): {self._sync}"

    def _lacking(self) -> int | None:
        """How many rows; None when that is not known."""
        try:
            count = sum(1 for _ in replay.rows(replay.entries(self._run)))
        except LehrError:
            return None
        return max(0, count - self._there) if self._there is not None else None


class Watch:
    """Whether what is sent arrives."""

    def __init__(self, limits: Limits, count: int, now: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._now = limits, now
        self._asked = self._moved = now()
        self._there = -1
        self._wanted = count  # rows sent when it was last asked

    def due_s(self) -> float:
        """Seconds until the next question."""
        return self._asked + self._limits.check_s - self._now()

    def unknown(self) -> None:
        """There was no answer: that nothing moved says nothing."""
        self._asked = self._moved = self._now()

    def seen(self, there: int, count: int) -> bool:
        """Take an answer; whether all that was sent by the last question has arrived.

        Raises:
            Unsent: no row has arrived for too long.
        """
        self._asked = self._now()
        arrived, self._wanted = there >= self._wanted, count
        if arrived or there > self._there:
            self._moved = self._asked
        self._there = there
        if self._asked - self._moved > self._limits.stalled_s:
            raise Unsent(f"no row has arrived for {self._asked - self._moved:.0f} s")
        return arrived


def arrived(server: Server, count: int, patience_s: float) -> int:
    """How many rows the server has, asked until it is `count` or the patience is over."""
    until = time.monotonic() + patience_s
    while (there := server.rows()) < count and time.monotonic() < until:
        time.sleep(0.25)
    return there


def reason(error: Any) -> str:
    """An error in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + " ..."
