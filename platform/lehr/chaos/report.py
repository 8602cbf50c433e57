"""What is told of a disturbed run: each fault and what came of it, each attempt, and the comparison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lehr.chaos.board import Board, Struck
from lehr.chaos.comparison import Line
from lehr.chaos.faults import Fault, Kill, Outage, Slow, TrackerDown
from lehr.chaos.pair import Ended
from lehr.journal import Entry

ROUTINE = ("checkpoint", "samples")  # events of every run
MOST_EVENTS = 30
_SHOWN = 200  # characters of an event
Attempts = dict[int, list[Entry]]


def text(board: Board, runs: tuple[Ended, Ended], attempts: Attempts, lines: Sequence[Line]) -> str:
    """The report.

    Args:
        board: of the faults.
        runs: the undisturbed and the disturbed one.
        attempts: entries of the disturbed run by attempt.
        lines: of the comparison.
    """
    calm, hit = runs
    began = hit.began
    told = ["faults"]
    for index, fault in enumerate(board.faults):
        told += [f"  {fault.name}", *(f"    {line}" for line in fate(board, index, attempts, began=began))]
    told += ["attempts", *(f"  {line}" for line in lives(attempts, began=began))]
    noted = events(attempts, began=began)
    told += ["events", *(f"  {line.replace(hit.run.url + '/', '')[:_SHOWN]}" for line in noted)]
    told += ["result", *(f"  {name:<12} {said}" for name, said in result(calm, hit, lines))]
    return "\n".join([*told, verdict(board, hit, lines)])


def good(board: Board, hit: Ended, lines: Sequence[Line]) -> bool:
    """Whether the disturbed run met its faults, was completed and equals the other."""
    return hit.completed and not missed(board) and all(line.same for line in lines)


def missed(board: Board) -> list[Fault]:
    """Faults that never struck: a report on them would tell nothing."""
    return [
        fault for index, fault in enumerate(board.faults)
        if isinstance(fault, Kill | Outage) and board.struck(index) is None
    ]  # fmt: skip


def verdict(board: Board, hit: Ended, lines: Sequence[Line]) -> str:
    """The last line."""
    if never := missed(board):
        return f"verdict: {', '.join(fault.name for fault in never)} never happened; nothing is proven"
    if not hit.completed:
        return "verdict: the disturbed run did not complete"
    odd = [line.name for line in lines if not line.same]
    if odd:
        return f"verdict: the disturbed run completed, but differs from the undisturbed: {', '.join(odd)}"
    return "verdict: the disturbed run completed and equals the undisturbed one"


def result(calm: Ended, hit: Ended, lines: Sequence[Line]) -> list[tuple[str, str]]:
    """Names and what is said of them."""
    outcome = hit.outcome
    how = "failed" if outcome is None else f"{outcome.status} at step {outcome.step} of {hit.plan.steps}"
    rows = [("status", how)]
    if hit.error is not None:
        rows.append(("", "\n               ".join(str(hit.error).splitlines())))
    rows += [(line.name, line.said) for line in lines]
    return [*rows, ("time", f"{hit.took_s:.1f} s, undisturbed {calm.took_s:.1f} s")]


def fate(board: Board, index: int, attempts: Attempts, *, began: float) -> list[str]:
    """What came of one fault."""
    fault, struck = board.faults[index], board.struck(index)
    notes = board.notes(index)
    if isinstance(fault, Slow):
        return [_slowed([note["slept_s"] for note in notes])]
    if isinstance(fault, TrackerDown):
        cut = [] if fault.whole else [f"{len(notes)} requests were cut off"]
        return [*cut, *tracked(attempts)]
    if struck is None:
        return ["it never happened: the run ended before"]
    first = f"at {struck.time - began:.1f} s, {_where(struck)}, in attempt {struck.attempt}"
    if isinstance(fault, Kill):
        return [first, resumed(struck, attempts)]
    return [first, suffered(notes), *outage(fault, struck, attempts)]


def _where(struck: Struck) -> str:
    return "before training" if struck.step is None else f"at step {struck.step}"


def _slowed(slept: list[float]) -> str:
    return f"it slept {sum(slept):.1f} s in {len(slept)} steps" if slept else "it was never slowed"


def tracked(attempts: Attempts) -> list[str]:
    """What the tracker had to say."""
    entries = [entry for each in attempts.values() for entry in each if _is(entry, "tracking")]
    said = dict.fromkeys(" ".join(str(entry.get("message", "")).split())[:_SHOWN] for entry in entries)
    return [f"told: {text}" for text in said] or ["it said nothing"]


def resumed(struck: Struck, attempts: Attempts) -> str:
    """How the run went on after a kill."""
    number = min((n for n in attempts if n > struck.attempt), default=None)
    start = next((e for e in attempts.get(number or 0, []) if e["type"] == "start"), None)
    if start is None or struck.step is None:
        return "no attempt went on after it"
    again = max(0, struck.step - start["from_step"])
    return (
        f"attempt {number} went on from step {start['from_step']} after {start['time'] - struck.time:.1f} s; "
        f"{again} step{'' if again == 1 else 's'} done again"
    )


def suffered(notes: Sequence[dict[str, object]]) -> str:
    """How many calls of the store a fault touched."""
    if not notes:
        return "no call of the store fell into it"
    verbs = Counter(str(note["verb"]) for note in notes)
    waited = sum(float(str(note["waited_s"])) for note in notes)
    told = ", ".join(f"{count} {verb}" for verb, count in verbs.most_common())
    return f"{len(notes)} calls suffered ({told})" + (f", {waited:.1f} s waited" if waited >= 0.05 else "")


def outage(fault: Outage, struck: Struck, attempts: Attempts) -> list[str]:
    """When checkpoints were stored again after an outage."""
    if fault.duration_s is None:
        return []
    over = struck.time + fault.duration_s
    after = [e for entries in attempts.values() for e in entries if _is(e, "checkpoint") and e["time"] > over]
    if not after:
        return ["it was over only after the last checkpoint"]
    first = min(after, key=lambda entry: float(entry["time"]))
    return [f"{first['time'] - over:.1f} s after its end the checkpoint of step {first['step']} was stored"]


def lives(attempts: Attempts, *, began: float) -> list[str]:
    """A line an attempt."""
    return [f"{number}  {_life(entries, began)}" for number, entries in attempts.items()] or ["none"]


def _life(entries: list[Entry], began: float) -> str:
    if not entries:
        return "it left no word"
    begin = next((e for e in entries if e["type"] == "start"), None)
    end = next((e for e in entries if e["type"] == "end"), None)
    steps = [e["step"] for e in entries if e["step"] is not None]
    how = end["outcome"] if end else "died"
    origin = f"from step {begin['from_step']}" if begin else "it never began"
    last = f"to {max(steps)}" if steps else "to nowhere"
    return f"{origin} {last}, {entries[0]['time'] - began:.1f} to {entries[-1]['time'] - began:.1f} s: {how}"


def events(attempts: Attempts, *, began: float) -> list[str]:
    """What the journal says besides what every run says."""
    found = [
        f"{e['time'] - began:7.1f} s  attempt {number}: {_event(e)}"
        for number, entries in attempts.items()
        for e in entries
        if e["type"] == "event" and e["event"] not in ROUTINE
    ]
    more = len(found) - MOST_EVENTS
    return [*found[:MOST_EVENTS], *([f"and {more} more"] if more > 0 else [])] or [
        "none but those of any run"
    ]


def _event(entry: Entry) -> str:
    fields = {k: v for k, v in entry.items() if k not in ("type", "time", "attempt", "event", "step")}
    step = "" if entry["step"] is None else f" at step {entry['step']}"
    said = ", ".join(f"{name} {value}" for name, value in fields.items())
    return " ".join(f"{entry['event']}{step}{': ' if said else ''}{said}".split())


def _is(entry: Entry, event: str) -> bool:
    return entry["type"] == "event" and entry["event"] == event
