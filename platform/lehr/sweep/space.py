"""The space of a sweep: ranges by the path of a key. Pure, and the same order every time.

A range with `when` is active in those parameters in which the keys that it names are active and have one of
the values that it names. Parameters hold the active paths and no others.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lehr.spec.search import Range, canonical
from lehr.sweep.records import Parameters

CORNERS = 1024  # that are looked at; above, each range alone and each pair of them
FEW = 4  # choices, all of which are paired
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
    return _products(space, ordered(space), {}, {path: tuple(given.all()) for path, given in space.items()})


def size(space: Space) -> int | None:
    """How many combinations a grid has; None: a range is continuous."""
    counts = [given.count for given in space.values()]
    if any(count is None for count in counts):
        return None
    if any(given.when for given in space.values()):
        return sum(1 for _ in combinations(space))
    return math.prod(count for count in counts if count)


def corners(space: Space) -> Iterator[Parameters]:
    """Every combination of ends and choices, if there are at most CORNERS.

    Else every end and choice alone, and every pair of them, with the others at their first.
    """
    ends = {path: given.ends for path, given in space.items()}
    every = list(itertools.islice(_products(space, ordered(space), {}, ends), CORNERS + 1))
    yield from every if len(every) <= CORNERS else _pairs(space)


def _products(
    space: Space, paths: Sequence[str], chosen: Parameters, options: Mapping[str, tuple[Any, ...]]
) -> Iterator[Parameters]:
    """Every choice of an option for each path that is active then."""
    if not paths:
        yield chosen
        return
    path, rest = paths[0], paths[1:]
    if not holds(space[path], chosen):
        yield from _products(space, rest, chosen, options)
        return
    for value in options[path]:
        yield from _products(space, rest, {**chosen, path: value}, options)


def _pairs(space: Space) -> Iterator[Parameters]:
    alone = [{path: value} for path in space for value in space[path].ends]
    outer = [{path: value} for path in space for value in _few(space[path].ends)]
    pairs = (one | other for one, other in itertools.combinations(outer, 2) if one.keys() != other.keys())
    known = set()
    for wanted in itertools.chain(alone, pairs):
        found = with_values(space, wanted)
        if found is not None and (text := canonical(found)) not in known:
            known.add(text)
            yield found


def _few(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Of many choices, the first and the last."""
    return values if len(values) <= FEW else (values[0], values[-1])


def with_values(space: Space, wanted: Mapping[str, Any]) -> Parameters | None:
    """Parameters that have some values, the conditions of these fulfilled and the rest at their first.

    None: no parameters have them all.
    """
    options = {path: given.ends[:1] for path, given in space.items()}
    options |= {path: tuple(values) for path, values in _conditions(space, wanted).items()}
    options |= {path: (value,) for path, value in wanted.items()}
    every = _products(space, ordered(space), {}, options)
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
