"""The space tried out: every corner becomes a plan before anything starts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lehr import plan as plans
from lehr.plan import Plan
from lehr.spec import Spec, paths, variants
from lehr.spec import schema as schemas
from lehr.spec.place import Path, Problem, dotted, refuse
from lehr.spec.search import Range, Search, canonical
from lehr.sweep import space as spaces
from lehr.sweep.demands import inside, place
from lehr.sweep.records import Parameters

ALL = 128  # values of a countable range are tried; of a larger one its ends and their neighbours


@dataclass
class Failure:
    """One problem, and the parameters of each corner that has it."""

    problem: Problem
    corners: list[Parameters] = field(default_factory=list)


def of_values(spec: Spec, search: Search) -> list[Problem]:
    """What the keys themselves say of their values: at most one problem a range."""
    found = (_of_range(spec, search, path, given) for path, given in search.space.items())
    return [problem for problem in found if problem]


def of_conditions(spec: Spec, search: Search) -> list[Problem]:
    """What keys that do not vary say of the values under `when`: one that they cannot have is a mistake."""
    told = []
    for path, given in search.space.items():
        for other, values in given.conditions.items():
            for value in values if other not in search.space else ():
                made = variants.attempt(spec, {other: value})
                wrong = [] if isinstance(made, Spec) else [one for one in made if one.path in _at(other)]
                told += [
                    spec.problem(place(path), f"when: {other}: {one.came}", accepted=one.accepted, do=one.do)
                    for one in wrong
                ]
    return told


def _at(path: str) -> tuple[Path, ...]:
    """Where problems with a key's value are told: a wrong `kind` is one of the mapping that has it."""
    parts = tuple(path.split("."))
    return (parts, parts[:-1]) if parts[-1] == "kind" else (parts,)


def _of_range(spec: Spec, search: Search, path: str, given: Range) -> Problem | None:
    for value in _tried(given):
        parameters = spaces.with_values(search.space, {path: value})
        made = variants.attempt(spec, parameters or {})
        for problem in [] if isinstance(made, Spec) else made:
            if inside(dotted(problem.path), path):
                return _at_range(spec, path, given, problem)
    return None


def _tried(given: Range) -> Iterator[Any]:
    """The ends first, then what lies between, as far as it can be counted."""
    yield from given.ends
    if given.count is not None:
        places = range(given.count) if given.count <= ALL else (1, given.count - 2)
        yield from (given.nth(place) for place in places)


def _at_range(spec: Spec, path: str, given: Range, problem: Problem) -> Problem:
    """A key's own problem with a value, told where the range stands."""
    schema = schemas.resolve(paths.find(path) or {})
    if schema.get("type") == "integer" and given.kind in ("log", "uniform") and given.step is None:
        came, do = f"{given.kind} gives fractions, and the key takes whole numbers", "give it step: 1, too"
        if all(float(end).is_integer() for end in given.values):
            low, high = map(int, given.values)
            do = f"write int: [{low}, {high}], or add step: 1"
        return spec.problem(place(path), came, accepted=schemas.words(schema), do=do)
    within = dotted(problem.path)[len(path) + 1 :]
    came = f"{within}: {problem.came}" if within else problem.came
    return spec.problem(place(path), came, accepted=problem.accepted, do=problem.do)


def corners(spec: Spec, search: Search) -> list[Plan]:
    """The plan of every corner.

    Raises:
        SpecError: some are no jobs: each distinct problem once, with the parameters that lead to it.
    """
    tried = 0
    failures: dict[tuple[Path, str], Failure] = {}
    made = []
    for parameters in every(search):
        tried += 1
        found = variants.attempt(spec, parameters)
        if isinstance(found, Spec):
            made.append(found)
        else:
            for problem in found:
                failures.setdefault(_key(problem), Failure(problem)).corners.append(parameters)
    refuse(_told(spec, failure, tried) for failure in failures.values())
    return [plans.make(one) for one in made]


def every(search: Search) -> Iterator[Parameters]:
    """The corners; and every value of countable ranges, the others at their first: divisions fail inside."""
    alone = (
        spaces.with_values(search.space, {path: value})
        for path, given in search.space.items()
        if given.count is not None
        for value in _tried(given)
    )
    known = set()
    for parameters in itertools.chain(spaces.corners(search.space), alone):
        if parameters is not None and (text := canonical(parameters)) not in known:
            known.add(text)
            yield parameters


def _told(spec: Spec, failure: Failure, tried: int) -> Problem:
    """The problem at the first range that it comes from; where it comes from none, as it is."""
    problem, first = failure.problem, failure.corners[0]
    guilty = _guilty(spec, problem, first)
    if not guilty and len(failure.corners) == tried:
        return problem
    own = dotted(problem.path)
    named = sorted(guilty or list(first), key=lambda path: not inside(own, path))
    where = ", ".join(f"{path}: {canonical(first[path])}" for path in named)
    came = f"with {where}, {'' if own in named else f'{own}: '}{problem.came}"
    return spec.problem(place(named[0]), came, accepted=problem.accepted, do=problem.do)


def _guilty(spec: Spec, problem: Problem, parameters: Parameters) -> list[str]:
    """The parameters without which the job would not have the problem: the others are left out one by one."""
    left = dict(parameters)
    for path in parameters:
        without = {other: value for other, value in left.items() if other != path}
        made = variants.attempt(spec, without)
        if not isinstance(made, Spec) and _key(problem) in map(_key, made):
            left = without
    return list(left)


def _key(problem: Problem) -> tuple[Path, str]:
    """What makes two problems the same one: all but the numbers."""
    return problem.path, re.sub(r"\d+", "", problem.came)
