"""Whether two runs of one job ended the same: to the bit, or by how much not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lehr import checkpoint, journal
from lehr.checkpoint import State
from lehr.errors import LehrError
from lehr.plan import Plan
from lehr.store import Store

PARTS = ("weights", "optimizer", "chains")
TIMED = ("time/", "rate/")  # metrics that no two runs share


@dataclass(frozen=True)
class Line:
    """One thing that was compared.

    Args:
        name: of it.
        same: whether it is as it should be.
        said: what was found, in words.
    """

    name: str
    same: bool
    said: str


def compare(plan: Plan, one: Store, other: Store) -> list[Line]:
    """What of the last checkpoints and the journals of two runs is equal; `one` is the undisturbed."""
    try:
        mine, theirs = _final(plan, one), _final(plan, other)
    except LehrError as error:
        states = [Line("checkpoint", same=False, said=" ".join(str(error).split()))]
    else:
        states = [_arrays(part, getattr(mine, part), getattr(theirs, part)) for part in PARTS]
        states.append(_progress(mine, theirs))
    return [*states, metrics(journal.read(one), journal.read(other)), verified(other)]


def _final(plan: Plan, run: Store) -> State:
    manifest = checkpoint.newest(run, step=plan.steps).manifest
    assert manifest is not None, "newest refuses when there is none of a step"
    return checkpoint.load(run, manifest, first_slot=0, slots=plan.global_batch)


def _arrays(part: str, mine: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> Line:
    if mine.keys() != theirs.keys():
        odd = ", ".join(sorted(mine.keys() ^ theirs.keys()))
        return Line(part, same=False, said=f"not the same arrays: {odd}")
    if not mine:
        return Line(part, same=True, said="none in either run")
    odd_ones = [name for name in mine if not _same(mine[name], theirs[name])]
    if not odd_ones:
        size = sum(value.nbytes for value in mine.values())
        return Line(part, same=True, said=f"equal to the bit: {len(mine)} arrays, {size:,} bytes")
    worst = max(odd_ones, key=lambda name: difference(mine[name], theirs[name]))
    by = difference(mine[worst], theirs[worst])
    told = f"{len(odd_ones)} of {len(mine)} arrays differ, the most {worst}: by {by:.3g} of its largest value"
    return Line(part, same=False, said=told)


def _same(mine: np.ndarray, theirs: np.ndarray) -> bool:
    return (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype) and mine.tobytes() == theirs.tobytes()


def difference(mine: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference, as a share of the largest absolute value; infinite where there is none."""
    if mine.shape != theirs.shape or not (np.isfinite(mine).all() and np.isfinite(theirs).all()):
        return float("inf")
    wide, other = mine.astype(np.float64), theirs.astype(np.float64)
    largest = float(np.abs(wide).max(initial=0.0))
    return float(np.abs(wide - other).max(initial=0.0)) / (largest or 1.0)


def _progress(mine: State, theirs: State) -> Line:
    same = mine.progress == theirs.progress
    return Line("progress", same=same, said="equal" if same else "what is carried between steps differs")


def story(entries: list[journal.Entry]) -> list[tuple[int, dict[str, str]]]:
    """The metrics that do not depend on time, by step; values as text, so that NaN equals itself."""
    found = [entry for entry in entries if entry["type"] == "metrics"]
    return [
        (e["step"], {k: json.dumps(v) for k, v in e["values"].items() if not k.startswith(TIMED)})
        for e in found
    ]


def metrics(mine: list[journal.Entry], theirs: list[journal.Entry]) -> Line:
    """Whether two journals tell the same."""
    one, other = story(mine), story(theirs)
    if one == other:
        return Line("metrics", same=True, said=f"the same {len(one)} entries of the journal")
    if len(one) != len(other):
        told = f"the journal has {len(other)} entries, undisturbed {len(one)}"
        missing = sorted({step for step, _ in one} - {step for step, _ in other})
        told += f"; steps {_few(missing)} are missing" if missing else ""
        return Line("metrics", same=False, said=told)
    first = next(i for i, pair in enumerate(zip(one, other, strict=True)) if pair[0] != pair[1])
    (step, mine_then), (their_step, theirs_then) = one[first], other[first]
    names = [name for name in mine_then | theirs_then if mine_then.get(name) != theirs_then.get(name)]
    what = names[0] if step == their_step else f"the step: {their_step}"
    return Line("metrics", same=False, said=f"the journals differ from step {step} on, first in {what}")


def _few(steps: list[int]) -> str:
    return ", ".join(map(str, steps[:5])) + (f" and {len(steps) - 5} more" if len(steps) > 5 else "")


def verified(run: Store) -> Line:
    """Whether every checkpoint that a run left is what was written."""
    committed = [item for item in checkpoint.listing(run) if item.committed]
    bad = {}
    for item in committed:
        problems = checkpoint.verify(run, item.manifest) if item.manifest else [item.problem]
        if problems:
            bad[item.name] = "; ".join(problems)
    told = f"{len(committed) - len(bad)} of {len(committed)} in the store are what was written"
    told += "".join(f"; {name}: {problem}" for name, problem in bad.items())
    return Line("checkpoints", same=bool(committed) and not bad, said=told)
