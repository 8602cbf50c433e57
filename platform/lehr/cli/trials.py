"""What a sweep's folder says of it: its trials in a table, the best, what mattered, what was copied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lehr import journal
from lehr.cli import columns, progress, stored
from lehr.cli.stored import NOTHING, Run
from lehr.errors import UserError, letter
from lehr.store import Store
from lehr.sweep import results
from lehr.sweep.program import shortened, words
from lehr.sweep.records import History, Segment, Trial

if TYPE_CHECKING:
    from lehr.sweep.program import Program

PICTURES = "figures"
LONGEST = 100  # letters of a reason, in a table
_BAR = 24  # letters of the longest bar


@dataclass(frozen=True)
class Found:
    """A sweep as its storage tells it.

    Args:
        run: what it has in common with runs: name, folder, status, attempts.
        program: what it searches.
        history: what came of it so far.
    """

    run: Run
    program: Program
    history: History

    @property
    def folder(self) -> Store:
        return self.run.folder

    @property
    def wanted(self) -> int:
        """How many trials there are to be: no fewer than have begun."""
        return max(self.program.trials, self.history.wanted, len(self.history.trials))

    @property
    def mode(self) -> str:
        return self.program.search.mode

    @property
    def over(self) -> int:
        """Trials of which nothing more becomes."""
        return sum(trial.over for trial in self.history.trials.values())

    @cached_property
    def importances(self) -> dict[str, float]:
        """How much each searched key matters, computed once: it takes seconds; {} before it can be told."""
        from lehr.sweep import importance

        return importance.importances(self.program, self.history)

    @property
    def names(self) -> dict[str, str]:
        """What tables call each searched key."""
        return shortened(self.program.search.space)


def find(name: str, storage: str) -> Found:
    """A sweep by its id or the URL of its folder.

    Raises:
        UserError: there is none.
    """
    run = stored.find(name, storage)
    if run.sweep:
        return _read(run)
    came = f"{run.name} is a run, and no sweep"
    raise UserError(letter("RUN", came, accepted="the id of what `lehr sweep FILE` made",
                           do=f"look at it: lehr show {name}"))  # fmt: skip


def read(folder: Store) -> Found:
    """The sweep whose folder it is.

    Raises:
        StorageError: the store does not answer.
    """
    return _read(stored.read(folder))


def _read(run: Run) -> Found:
    from lehr.sweep import program

    return Found(run, program.restore(run.sweep), history(run.folder))


def history(folder: Store) -> History:
    """What a sweep's journal tells."""
    return History.read(entry for life in journal.lives(folder) for entry in life)


def lines(found: Found, top: int | None = None) -> Iterator[str]:
    """What `lehr sweep show` says."""
    yield from head(found)
    yield from _best(found)
    yield from _table(found, top)
    yield from _importance(found)
    yield from _lineage(found)
    yield from _places(found)


def head(found: Found) -> Iterator[str]:
    """How it stands, and what it searches."""
    search, now = found.program.search, stored.state(found.run)
    yield f"sweep {found.run.name}: {now}, {found.over} of {found.wanted} trials over{_outcomes(found)}"
    if found.run.status and found.run.status.message:
        yield "  " + found.run.status.message.replace("\n", "\n  ")
    scheduler = "" if search.scheduler == "none" else f" with {search.scheduler}"
    yield f"  {search.algorithm}{scheduler}: {search.mode} {search.metric} over {', '.join(search.space)}"


def _outcomes(found: Found) -> str:
    told = Counter(state(found, trial) for trial in found.history.trials.values())
    return f" ({', '.join(f'{count} {word}' for word, count in sorted(told.items()))})" if told else ""


def _best(found: Found) -> Iterator[str]:
    ranked = results.ranking(found.history, found.mode)
    if not ranked:
        yield "  best: no trial has a value yet"
        return
    start = results.best_segment(ranked[0], found.mode).start
    told = f"{found.program.search.metric} {_number(ranked[0].best(found.mode))}, trial {start.trial}"
    yield f"  best: {told}: {found.program.label(start.parameters)}"


def order(found: Found) -> list[Trial]:
    """All trials: the best first, then those without a value, then those that diverged."""
    ranked = results.ranking(found.history, found.mode)
    known = {trial.number for trial in ranked}
    rest = [trial for number, trial in sorted(found.history.trials.items()) if number not in known]
    return [*ranked, *sorted(rest, key=lambda trial: trial.diverged)]


def _table(found: Found, top: int | None) -> Iterator[str]:
    shown = order(found)[:top]
    if not shown:
        return
    rows = [(*cells(found, trial), results.why(trial.last, LONGEST)) for trial in shown]
    yield "trials, the best first" + (f" ({len(shown)} of {len(found.history.trials)})" if top else "")
    yield from columns.aligned([(*heading(found), "why"), *rows], indent="  ")


def heading(found: Found) -> tuple[str, ...]:
    """The names of `cells`."""
    return ("trial", *found.names.values(), "step", "last value", "best", "trained", "state")


def cells(found: Found, trial: Trial) -> tuple[str, ...]:
    """One trial's: of a copied one the parameters with which it was best."""
    given = results.best_segment(trial, found.mode).start.parameters
    varies = (words(given[path]) if path in given else NOTHING for path in found.names)
    trained = sum(segment.train_s for segment in trial.segments)
    best = None if trial.diverged else trial.best(found.mode)
    return (
        str(trial.number), *varies, f"{trial.last.at}/{trial.last.steps}", _number(results.last_value(trial)),
        _number(best), columns.duration(trained) if trained else NOTHING, state(found, trial),
    )  # fmt: skip


def state(found: Found, trial: Trial) -> str:
    """How it is, in a word; one that ran when its driver died does not run now."""
    if trial.last.outcome is None:
        return "running" if stored.is_alive(found.run) else "to go on"
    return trial.last.outcome


def _number(value: float | None) -> str:
    return NOTHING if value is None else columns.number(value)


def _importance(found: Found) -> Iterator[str]:
    shares = found.importances
    if not shares:
        return
    yield "importance (share of the variance of the trials' ranks)"
    ordered = sorted(shares.items(), key=lambda each: -each[1])
    longest = max(shares.values()) or 1.0
    rows = [(path, f"{share:.0%}", "#" * round(_BAR * share / longest)) for path, share in ordered]
    yield from columns.aligned(rows, indent="  ")


def _lineage(found: Found) -> Iterator[str]:
    copied = [trial for _, trial in sorted(found.history.trials.items()) if len(trial.segments) > 1]
    if not copied:
        return
    yield "lineage"
    for trial in copied:
        for before, segment in zip(trial.segments, trial.segments[1:], strict=False):
            yield f"  trial {trial.number}: {_copied(found, before, segment)}"


def _copied(found: Found, before: Segment, segment: Segment) -> str:
    source, given = segment.start.source, before.start.parameters
    changed = [f"{found.names.get(path, path)} {words(given.get(path))} -> {words(value)}"
               for path, value in segment.start.parameters.items() if given.get(path) != value]  # fmt: skip
    origin = f"copied trial {source.trial} at step {source.step}" if source else "began anew"
    return f"{origin}: {', '.join(changed) or 'nothing changed'}"


def _places(found: Found) -> Iterator[str]:
    url = found.folder.url
    yield f"results  {url}/{results.LINES}, {results.PARQUET}"
    if ranked := results.ranking(found.history, found.mode):
        run = results.best_segment(ranked[0], found.mode).start.run
        place = run if called(found) == found.run.name else f"{url}/{stored.TRIALS}/{run}"
        yield f"a trial  lehr show {place}"
        yield f"the best as a job file  lehr sweep best {called(found)} --write FILE"


def called(found: Found) -> str:
    """How other commands are to name it: its id where they look for it by themselves, else its URL."""
    return progress.called(found.program, found.folder.url)


def pictures(found: Found) -> dict[str, bytes]:
    """The sweep drawn: PNG by name; {} before there is a value."""
    from lehr.sweep import pictures as drawing

    return drawing.make(found.program, found.history, found.importances)


def draw(found: Found, place: str) -> list[str]:
    """Write the pictures into a folder of this machine; lines that say which.

    Raises:
        UserError: that is no folder that can be written into.
    """
    folder, made = Path(place).expanduser(), pictures(found)
    if not made:
        return ["no trial has a value yet: there is nothing to draw"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, png in made.items():
            (folder / f"{name}.png").write_bytes(png)
    except OSError as error:
        came = f"cannot be written into: {error.strerror or error}"
        raise UserError(letter(f"--figures {place}", came, do="name another folder")) from None
    return [f"drawn    {folder / name}.png" for name in made]


def illustrate(found: Found) -> list[str]:
    """Write the pictures into the sweep's own folder; their keys.

    Raises:
        StorageError: the store does not take them.
    """
    made = {f"{PICTURES}/{name}.png": png for name, png in pictures(found).items()}
    for key, png in made.items():
        found.folder.write(key, png)
    return list(made)
