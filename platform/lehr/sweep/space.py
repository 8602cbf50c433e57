"""The space of a sweep: ranges by the path of a key. Pure, and the same order every time.

A range with `when` is active in those parameters in which the keys that it names are active and have one of
the values that it names. Parameters hold the active paths and no others.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from lehr.spec.search import MOST, Range, canonical
from lehr.sweep.records import Parameters

CORNERS = 1024  # that are looked at; above, each end and choice alone and each pair of them
PAIRS = 4096  # that are looked at; above, the longest lists of choices are shortened until there are no more
Space = Mapping[str, Range]


def ordered(space: Space) -> list[str]:
    """All paths, each after those that its `when` names."""
    found: dict[str, None] = {}

    def visit(path: str, above: tuple[str, ...]) -> None:
        for other in space[path].conditions:
            if other in space and other not in above:
                visit(other, (*above, path))
        found.setdefault(path)

    for path in space:
        visit(path, (path,))
    return list(found)


def holds(given: Range, parameters: Mapping[str, Any]) -> bool:
    """Whether parameters have what the range's `when` asks for."""
    return all(
        path in parameters and canonical(parameters[path]) in map(canonical, values)
        for path, values in given.conditions.items()
    )


def active(space: Space, parameters: Mapping[str, Any]) -> list[str]:
    """The paths that vary, given the values of those that others hang on."""
    known: Parameters = {}
    found = []
    for path in ordered(space):
        if holds(space[path], known):
            found.append(path)
            known |= {path: parameters[path]} if path in parameters else {}
    return found


def contains(space: Space, parameters: Mapping[str, Any]) -> bool:
    """Whether a trial of the space could have these parameters."""
    if set(parameters) != set(active(space, parameters)):
        return False
    return all(space[path].contains(value) for path, value in parameters.items())


def combinations(space: Space) -> Iterator[Parameters]:
    """The grid: every value of every range, the last one fastest. All ranges must be countable."""
    few = {path: tuple(given.all()) for path, given in space.items() if (given.count or 0) <= MOST}
    return _products(space, ordered(space), {}, lambda path: few[path] if path in few else space[path].all())


def size(space: Space) -> int | None:
    """How many combinations a grid has; None: a range is continuous.

    Where ranges hang on others it may stop counting above MOST.
    """
    if any(given.count is None for given in space.values()):
        return None
    total = 0
    for many in _counts(space, ordered(space), {}, _named(space)):
        total += many
        if total > MOST:
            break
    return total


def _named(space: Space) -> dict[str, list[Any]]:
    """The values of each path on which other ranges hang."""
    found: dict[str, dict[str, Any]] = {path: {} for path in space}
    for given in space.values():
        for path, values in given.conditions.items():
            if path in space:
                found[path] |= {canonical(value): value for value in values if space[path].contains(value)}
    return {path: list(values.values()) for path, values in found.items()}


def _counts(
    space: Space, paths: Sequence[str], chosen: Parameters, named: Mapping[str, list[Any]], many: int = 1
) -> Iterator[int]:
    """The combinations in parts: those that differ only in values on which nothing hangs are one part."""
    if not paths:
        yield many
        return
    path, rest = paths[0], paths[1:]
    if not holds(space[path], chosen):
        yield from _counts(space, rest, chosen, named, many)
        return
    for value in named[path]:
        yield from _counts(space, rest, {**chosen, path: value}, named, many)
    if others := (space[path].count or 0) - len(named[path]):
        yield from _counts(space, rest, chosen, named, many * others)


def corners(space: Space) -> Iterator[Parameters]:
    """Every combination of ends and choices, if there are at most CORNERS.

    Else every end and choice alone, and every pair of them, with the others at their first; of more pairs
    than PAIRS, those of the first choices and the last.
    """
    every = list(
        itertools.islice(_products(space, ordered(space), {}, _ends(space).__getitem__), CORNERS + 1)
    )
    yield from every if len(every) <= CORNERS else _pairs(space)


def _ends(space: Space) -> dict[str, tuple[Any, ...]]:
    return {path: given.ends for path, given in space.items()}


def _products(
    space: Space, paths: Sequence[str], chosen: Parameters, options: Callable[[str], Iterable[Any]]
) -> Iterator[Parameters]:
    """Every choice of an option for each path that is active then."""
    if not paths:
        yield chosen
        return
    path, rest = paths[0], paths[1:]
    if not holds(space[path], chosen):
        yield from _products(space, rest, chosen, options)
        return
    for value in options(path):
        yield from _products(space, rest, {**chosen, path: value}, options)


def _pairs(space: Space) -> Iterator[Parameters]:
    alone = [{path: value} for path in space for value in space[path].ends]
    outer = [{path: value} for path, values in _shorter(_ends(space)).items() for value in values]
    pairs = (one | other for one, other in itertools.combinations(outer, 2) if one.keys() != other.keys())
    known = set()
    for wanted in itertools.chain(alone, pairs):
        found = with_values(space, wanted)
        if found is not None and (text := canonical(found)) not in known:
            known.add(text)
            yield found


def _shorter(ends: Mapping[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """As many choices as make at most PAIRS, the first and the last among them."""
    most = max(map(len, ends.values()))
    while most > 2 and _paired(min(len(values), most) for values in ends.values()) > PAIRS:
        most -= 1
    return {path: values if len(values) <= most else (*values[: most - 1], values[-1])
            for path, values in ends.items()}  # fmt: skip


def _paired(counts: Iterable[int]) -> int:
    return sum(one * other for one, other in itertools.combinations(counts, 2))


def with_values(space: Space, wanted: Mapping[str, Any]) -> Parameters | None:
    """Parameters that have some values, the conditions of these fulfilled and the rest at their first.

    None: no parameters have them all.
    """
    options = {path: given.ends[:1] for path, given in space.items()}
    options |= {path: tuple(values) for path, values in _conditions(space, wanted).items()}
    options |= {path: (value,) for path, value in wanted.items()}
    every = _products(space, ordered(space), {}, options.__getitem__)
    return next((found for found in every if found.keys() >= wanted.keys()), None)


def _conditions(space: Space, wanted: Iterable[str]) -> dict[str, list[Any]]:
    """The values by which some paths become active, by the paths that they hang on."""
    found: dict[str, list[Any]] = {}
    waiting = list(wanted)
    seen = set(waiting)
    while waiting:
        for path, values in space[waiting.pop()].conditions.items():
            there = [value for value in values if path in space and space[path].contains(value)]
            found.setdefault(path, []).extend(there)
            waiting += [path] if path in space and path not in seen else []
            seen.add(path)
    return {path: values for path, values in found.items() if values}


def differences(old: Space, new: Space) -> list[str]:
    """What differs: lines `sampler.steps: {"int": [20, 60]} -> {"int": [20, 120]}`."""
    paths = [path for path in {**old, **new} if _text(old, path) != _text(new, path)]
    return [f"{path}: {_text(old, path)} -> {_text(new, path)}" for path in paths]


def _text(space: Space, path: str) -> str:
    return json.dumps(_whole(space[path].given())) if path in space else "absent"


def _whole(value: Any) -> Any:
    return json.loads(canonical(value))
