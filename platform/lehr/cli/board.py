"""A sweep on the terminal: its trials in a live table, or a line for each thing that happens."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lehr.cli import columns, progress
from lehr.cli.progress import clock
from lehr.cli.stored import NOTHING
from lehr.sweep import results
from lehr.sweep.program import shortened, words
from lehr.sweep.records import History, Trial

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

    from lehr.launch.sweeps import Result, View
    from lehr.store import Store
    from lehr.sweep.program import Program

LINE_S = 20.0  # between lines of how it stands, where there is no terminal
ROOM = 8  # lines of a terminal that the table leaves
LONGEST = 60  # letters of a reason
# What ended a sweep that would end it again at once, and how to go on all the same.
BOUNDS = {
    "search.budget": "with a larger search.budget: --set search.budget.hours=N",
    "search.on_divergence": "with --set search.on_divergence=worst",
}


@dataclass(frozen=True)
class Line:
    """One trial, as it was when it was looked at.

    Args:
        number: of the trial.
        varies: its parameters' texts, in the order of the space.
        at: step of steps.
        value: the last one reported.
        best: its best.
        state: running, or how it ended.
        why: in a few words.
        rank: for the order: running ones first, then the best.
    """

    number: int
    varies: tuple[str, ...]
    at: str
    value: str
    best: str
    state: str
    why: str
    rank: tuple[int, float, int]

    @property
    def cells(self) -> tuple[str, ...]:
        return (str(self.number), *self.varies, self.at, self.value, self.best, self.state, self.why)


@dataclass(frozen=True)
class Look:
    """A sweep at one moment: values alone, so that another thread may show it.

    Args:
        lines: of all trials, in the order of the table.
        over: trials of which nothing more becomes.
        wanted: how many there are to be.
        slots: trials that may run at once; 0 while that is not known.
        running: how many do.
        best: the best trial so far, in words.
        waiting: what it waits for.
        left_s: seconds to the end; None while that is not known.
    """

    lines: tuple[Line, ...] = ()
    over: int = 0
    wanted: int = 0
    slots: int = 0
    running: int = 0
    best: str = ""
    waiting: str = ""
    left_s: float | None = None


class Board:
    """Shows one sweep while it is driven. A context manager.

    Args:
        program: the sweep.
        folder: of the sweep.
    """

    def __init__(self, program: Program, folder: Store) -> None:
        self._program, self._folder = program, folder
        self._live: Live | None = None
        self._began = time.monotonic()
        self._printed = -float("inf")
        self._look, self._told = Look(), Look()
        self._known: dict[int, str] | None = None  # states that were said, by trial

    def __enter__(self) -> Board:
        self._console: Console = progress.console()
        search, name = self._program.search, self._program.run_id
        scheduler = "" if search.scheduler == "none" else f" with {search.scheduler}"
        self.say(f"{name}: sweep of {self._program.trials} trials, {search.algorithm}{scheduler}, "
                 f"{search.mode} {search.metric}")  # fmt: skip
        self.say(f"  folder {self._folder.url}")
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(self._view(), console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()
        self._console.file.close()

    def say(self, text: str) -> None:
        """Print something above the table, at once."""
        self._console.print(text, markup=False)

    def watch(self, view: View) -> None:
        """Take a look at the sweep; called by its driver, in a thread of its own."""
        self._look = look(self._program, view)

    def tick(self) -> None:
        """Show what is new; called in the main thread."""
        seen = self._look
        if seen is self._told:
            return
        self._told = seen
        if self._live is not None:
            self._live.update(self._view(), refresh=True)
            return
        self._tell(seen)
        if time.monotonic() - self._printed >= LINE_S:
            self._printed = time.monotonic()
            self.say(headline(self._program, seen))

    def end(self, result: Result, signal: int | None) -> int:
        """Say what came of it and what to do next; the exit code."""
        self.tick()
        self._stop()
        took = clock(time.monotonic() - self._began)
        print("\n".join(last_words(self._program, self._folder.url, result, took)), flush=True)
        if result.status == "stopped" and signal is not None:
            return 128 + signal
        return 1 if _bound(result) else 0

    def _tell(self, seen: Look) -> None:
        """A line a trial whose state is another than it was."""
        names = list(shortened(self._program.search.space).values())
        if self._known is None and seen.waiting and not seen.lines:
            return  # what earlier launches left is not read yet
        if self._known is None:  # it is not told one by one
            self._known = {line.number: line.state for line in seen.lines if line.state != "running"}
        for line in sorted(seen.lines, key=lambda each: each.number):
            if self._known.get(line.number) != line.state:
                self._known[line.number] = line.state
                self.say(f"  {sentence(line, names)}")

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _view(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        seen, search = self._look, self._program.search
        table = Table(box=None, pad_edge=False, header_style="bold")
        names = shortened(search.space).values()
        for name in ("trial", *names, "step", search.metric, "best", "state", ""):
            table.add_column(Text(name), no_wrap=True, overflow="ellipsis")
        room = max(4, self._console.size.height - ROOM)
        for line in seen.lines[:room]:
            table.add_row(*map(Text, line.cells), style=_STYLES.get(line.state))
        hidden = len(seen.lines) - room
        more = [Text(f"... and {hidden} more: lehr sweep show {self._program.run_id}")] if hidden > 0 else []
        best = [Text(f"best  {seen.best}", style="bold")] if seen.best else []
        return Group(Text(headline(self._program, seen)), *best, table, *more)


_STYLES = {"running": "cyan", "diverged": "red", "failed": "red", "stopped": "dim", "interrupted": "yellow"}


def look(program: Program, view: View) -> Look:
    """What is shown of a sweep."""
    history, mode = view.history, program.search.mode
    ranked = results.ranking(history, mode)
    places = {trial.number: place for place, trial in enumerate(ranked)}
    lines = sorted((_line(program, trial, view, places) for trial in history.trials.values()),
                   key=lambda line: line.rank)  # fmt: skip
    over = sum(trial.over for trial in history.trials.values())
    best = f"{program.search.metric} {_told(ranked[0].best(mode))}, trial {ranked[0].number}: " \
           f"{_led(program, ranked[0])}" if ranked else ""  # fmt: skip
    left = left_s(history, view.wanted, view.slots)
    return Look(tuple(lines), over, view.wanted, view.slots, len(view.running), best, view.waiting, left)


def _led(program: Program, trial: Trial) -> str:
    """What a trial's best value came of."""
    return program.label(results.best_segment(trial, program.search.mode).start.parameters)


def _line(program: Program, trial: Trial, view: View, places: dict[int, int]) -> Line:
    last, live = trial.last, view.running.get(trial.last.start.run)
    told = last if live is not None else results.best_segment(trial, program.search.mode)
    given = told.start.parameters
    at, steps = (live.at, live.steps) if live is not None else (last.at, last.steps)
    state = "running" if live is not None else last.outcome or "to go on"
    varies = tuple(words(given[path]) if path in given else NOTHING for path in program.search.space)
    best = None if trial.diverged else trial.best(program.search.mode)
    where = f"on {live.host}" if live is not None and live.host else results.why(trial.last, LONGEST)
    order = 0 if live is not None else 2 if trial.diverged else 1
    rank = (order, float(places.get(trial.number, len(places))) if order else 0.0, trial.number)
    return Line(trial.number, varies, f"{at}/{steps}", _told(results.last_value(trial)), _told(best), state,
                where, rank)  # fmt: skip


def _told(value: float | None) -> str:
    return NOTHING if value is None else columns.number(value)


def left_s(history: History, wanted: int, slots: int) -> float | None:
    """Seconds to the end if the other trials hold their places as long as those that are over did."""
    over = [trial for trial in history.trials.values() if trial.over]
    took = sum(segment.wall_s for trial in over for segment in trial.segments)
    if not over or not took or not slots:
        return None
    return took / len(over) * max(0, wanted - len(over)) / slots


def headline(program: Program, seen: Look) -> str:
    """How it stands, in a line."""
    parts = [f"{seen.over} of {seen.wanted or program.trials} trials over"]
    if seen.slots:
        parts.append(f"{seen.running} of {seen.slots} places taken")
    if seen.waiting:
        parts.append(seen.waiting)
    if seen.left_s is not None and seen.over < seen.wanted:
        parts.append(f"about {clock(seen.left_s)} left")
    return ", ".join(parts)


def sentence(line: Line, names: list[str]) -> str:
    """One trial's state, where there is no table."""
    varies = " ".join(f"{name}={text}" for name, text in zip(names, line.varies, strict=True)
                      if text != NOTHING)  # fmt: skip
    if line.state == "running":
        return f"trial {line.number} runs: {varies}"
    value = f", {line.value}" if line.value != NOTHING else ""
    return f"trial {line.number} {line.state} at step {line.at}{value}{f': {line.why}' if line.why else ''}"


def last_words(program: Program, url: str, result: Result, took: str) -> list[str]:
    """What is printed at the end: how it went, the best, what to do next."""
    name = program.run_id if program.spec.storage == "runs" else url
    told = [f"{program.run_id}: {result.status}, {result.over} of {result.trials} trials over, after {took}"]
    if result.message:
        told.append(result.message)
    rows = []
    if result.best is not None:
        value = columns.number(result.best.best(program.search.mode) or 0.0)
        rows += [("best", f"{program.search.metric} {value}, trial {result.best.number}"),
                 ("", _led(program, result.best)),
                 ("as a job", f"lehr sweep best {name} --write FILE")]  # fmt: skip
    rows.append(("look", f"lehr sweep show {name}"))
    again = f"give the same command again {BOUNDS.get(_bound(result), '')}".rstrip()
    rows.append(("go on", again) if result.over < result.trials
                else ("extend", f"lehr sweep extend {name} --trials +{result.trials}"))  # fmt: skip
    return [*told, *columns.aligned(rows, indent="  ")]


def _bound(result: Result) -> str:
    """The key of the job file that ended the sweep before its trials were over; "" if none did."""
    if result.status != "stopped":
        return ""
    return next((key for key in BOUNDS if key in result.message), "")
