"""Whether a sweep may begin or go on: what its folder already holds, and how it may have changed since."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lehr import journal, status
from lehr import spec as specs
from lehr.errors import StorageError, UserError, letter
from lehr.launch import admission
from lehr.spec.search import Range
from lehr.status import Status
from lehr.store import Store
from lehr.sweep import space as spaces
from lehr.sweep.program import Program
from lehr.sweep.records import History

SWEEP = admission.SWEEP
MAY_CHANGE = ("trials", "concurrent", "budget", "space", "on_divergence")  # of `search`, when a sweep goes on
_LENGTHS = ("train.duration", "validation.every", "tracking.every")  # a trial is told from another by them
_SHOWN = 5


@dataclass(frozen=True)
class Before:
    """What earlier launches of a sweep left.

    Args:
        program: the one to go on with: as many trials as were ever asked for.
        history: what their journals say.
        spent_s: seconds that they lasted.
        news: events with which this launch begins: `extended` and `space`, as fields of the journal.
    """

    program: Program
    history: History
    spent_s: float
    news: tuple[Mapping[str, Any], ...] = ()


def before(program: Program, folder: Store, *, say: Callable[[str], None]) -> Before:
    """What is in the folder of the sweep that `program` would continue; looks whether somebody drives it.

    Args:
        program: as the job file asks for it.
        folder: of the sweep.
        say: tells the user what takes time.

    Raises:
        UserError: it is a run's folder, another job's sweep, one that runs right now, or its space has
            changed so that trials lie outside.
    """
    old = admission.document(folder, SWEEP)
    if not old:
        _refuse_run(program, folder)
        return Before(program, History(), 0.0)
    _refuse_other(program, old["spec"], folder.url)
    if admission.lives(folder, f"sweep {program.run_id}", say=say):
        raise _taken(program)
    return _left(program, folder, old)


def sealed(program: Program, folder: Store, attempt: int) -> tuple[Before, dict[str, int]]:
    """What earlier launches left, now that `attempt` was claimed, and how much of their journals that is.

    A driver that was cut off may have stored its last words between `before` and the claim; what it stores
    later does not count.
    """
    while True:
        sizes = journal.sizes(folder, before=attempt)
        old = admission.document(folder, SWEEP)
        found = _left(program, folder, old) if old else Before(program, History(), 0.0)
        if journal.sizes(folder, before=attempt) == sizes:
            return found, sizes


def _left(program: Program, folder: Store, old: Mapping[str, Any]) -> Before:
    lives = journal.lives(folder)
    history = History.read(entry for entries in lives for entry in entries)
    return _changed(program, old["spec"]["search"], history, _spent_s(lives, status.read(folder)))


def _changed(program: Program, search: Mapping[str, Any], history: History, spent_s: float) -> Before:
    news: list[Mapping[str, Any]] = []
    space = _space(search["space"] if history.space is None else history.space)
    asked = _asked(program)
    if history.trials and (changes := spaces.differences(space, asked)):
        _refuse_outside(program, changes, history)
        news.append({"event": "space", "space": _document(asked)})
    wanted = max(history.wanted, search["trials"] or spaces.size(space) or 0)
    if program.trials > wanted:
        news.append({"event": "extended", "trials": program.trials})
    program = dataclasses.replace(program, trials=max(program.trials, history.wanted))
    for event in news:
        history.apply(event)
    return Before(program, history, spent_s, tuple(news))


def _spent_s(lives: Sequence[Sequence[journal.Entry]], said: Status | None) -> float:
    """How long all launches lasted: each one's start says it of those before. One that was killed lasted to
    its last word, or to its last sign of life."""
    last = next((one for one in reversed(lives) if one and one[0]["type"] == "start"), None)
    if last is None:
        return 0.0
    lived = said.time if said is not None and said.attempt == last[0]["attempt"] else 0.0
    return float(last[0].get("spent_s", 0.0) + max(last[-1]["time"], lived) - last[0]["time"])


def _space(document: Mapping[str, Any]) -> dict[str, Range]:
    return {path: Range.model_validate(given) for path, given in document.items()}


def _asked(program: Program) -> Mapping[str, Range]:
    """The space in the words of the job file."""
    assert program.spec.search is not None, "a program has a search"
    return program.spec.search.space


def _document(space: Mapping[str, Range]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps({path: each.given() for path, each in space.items()}))
    return found


def _refuse_run(program: Program, folder: Store) -> None:
    # A run has its plan before any attempt; a claim alone is of a driver that died early.
    if folder.size("plan.json") is None:
        return
    raise UserError(
        letter(
            f"sweep {program.run_id}",
            f"{folder.url} holds a run that is no sweep",
            do=f"give the sweep another name: --run {program.run_id}-sweep",
        )
    )


def _refuse_other(program: Program, old: Mapping[str, Any], url: str) -> None:
    changes = differences(old, program.spec.document())
    if not changes:
        return
    told = "\n    ".join(changes)
    raise UserError(
        letter(
            f"sweep {program.run_id}",
            f"it was started with other settings, and its trials cannot be compared with these:\n    {told}",
            accepted=f"changes of search.{', search.'.join(MAY_CHANGE)}, and of what changes no result",
            do=f"undo the change to go on, or sweep beside it: --run {program.run_id}-2 ({url} stays)",
        )
    )


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What tells the trials of two jobs apart, in lines `search.seed: 0 -> 1`.

    [] when a sweep over the one may go on as one over the other.
    """
    lines = specs.difference(old, new)
    lines += [_line(path, a, b) for path in _LENGTHS if (a := _at(old, path)) != (b := _at(new, path))]
    before, after = old.get("search") or {}, new.get("search") or {}
    names = [name for name in {**before, **after} if name not in MAY_CHANGE]
    lines += [
        _line(f"search.{name}", before.get(name), after.get(name))
        for name in names
        if before.get(name) != after.get(name)
    ]
    return lines


def _at(document: Mapping[str, Any], path: str) -> Any:
    value: Any = document
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _line(path: str, old: Any, new: Any) -> str:
    return f"{path}: {json.dumps(old)} -> {json.dumps(new)}"


def _refuse_outside(program: Program, changes: list[str], history: History) -> None:
    space = program.search.space
    segments = [one for trial in history.trials.values() for one in trial.segments]
    outside = [one.start for one in segments if not spaces.contains(space, one.start.parameters)]
    if not outside:
        return
    lines = [f"{start.run}: {program.label(start.parameters)}" for start in outside[:_SHOWN]]
    more = [f"and {len(outside) - _SHOWN} more"] if len(outside) > _SHOWN else []
    told = "\n    ".join([*changes, "trials outside the new space:", *lines, *more])
    raise UserError(
        letter(
            f"sweep {program.run_id}: search.space",
            f"it has changed, and trials that there are lie outside:\n    {told}",
            accepted="a space that contains all trials, with the same keys",
            do=f"widen the space so that it does, or sweep beside it: --run {program.run_id}-2",
        )
    )


def _taken(program: Program) -> UserError:
    return UserError(
        letter(
            f"sweep {program.run_id}",
            "it runs right now",
            do=f"watch it with `lehr sweep show {program.run_id}`, stop it with Ctrl-C where it was started, "
            f"or sweep beside it: --run {program.run_id}-2",
        )
    )


def prepare(program: Program, folder: Store) -> None:
    """Write what makes the folder a sweep's: `spec.yaml`, `sweep.json`, who drives it."""
    folder.write("spec.yaml", specs.text(program.spec).encode())
    folder.write(SWEEP, json.dumps(program.document(), indent=2).encode())
    admission.sign(folder)


def leave(folder: Store) -> None:
    """Nobody drives the sweep any more: this process may go on with other things."""
    with contextlib.suppress(StorageError):
        folder.delete(admission.DRIVER)
