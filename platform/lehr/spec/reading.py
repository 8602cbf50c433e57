"""From a job file and overrides to a spec."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from lehr.errors import SpecError, letter
from lehr.spec import letters, overrides, secrets, source
from lehr.spec import tree as trees
from lehr.spec.job import VERSION, Spec
from lehr.spec.place import Path, Problem, refuse
from lehr.spec.secrets import show
from lehr.spec.tree import Tree


def load(path: str, overrides: Sequence[str] = ()) -> Spec:
    """The spec of a job file (a local path or a URL), changed by `--set` texts.

    Raises:
        SpecError: it cannot be accepted; the message tells every problem, with its line.
    """
    return parse(source.text(path), source=path, sets=overrides)


def parse(text: str, *, source: str = "the job file", sets: Sequence[str] = ()) -> Spec:
    """The spec in a YAML text; `source` is what messages call it."""
    tree = trees.read(text, source)
    if not isinstance(tree.value, dict):
        came = "the file is empty" if tree.value is None else f"{show(tree.value)} at the top"
        raise SpecError(letter(source, came, accepted="a mapping that starts with version: 1"))
    overrides.apply(tree, sets)
    return validate(tree)


def restore(document: Mapping[str, Any]) -> Spec:
    """The spec that `Spec.document` described."""
    return validate(Tree("the stored spec", dict(document)))


def text(spec: Spec) -> str:
    """The spec as YAML, every default filled in: what a run keeps as `spec.yaml`. `parse` gives it back."""
    return trees.write(spec.document())


def validate(tree: Tree) -> Spec:
    """The spec in a tree of plain values, or a SpecError that tells every problem."""
    if unknown := _version(tree):
        refuse([unknown])
    typed_in = list(secrets.problems(tree.value))
    found = [*tree.problems, *(_placed(one, tree) for one in typed_in)]
    try:
        spec = Spec.model_validate(tree.value)
    except ValidationError as error:
        known = {one.path for one in found}
        found += [one for one in letters.problems(error, tree) if one.path not in known]
    known = {one.path for one in found}
    found += [one for one in _without_bounds(tree.value, (), tree) if one.path not in known]
    refuse(sorted((one for one in found if not any(map(secrets.looks_like, one.path))), key=_line))
    spec._origins.update(tree.origins)
    return spec


def _version(tree: Tree) -> Problem | None:
    """A version that is not ours makes every other message noise."""
    given = tree.value.get("version", VERSION)
    if isinstance(given, int) and not isinstance(given, bool) and given == VERSION:
        return None
    do = "this file was written for a newer lehr" if isinstance(given, int) and given > VERSION else ""
    return Problem(
        ("version",), f"{show(given)} is not a version", str(VERSION), do, tree.origin(("version",))
    )


def _without_bounds(value: Any, path: Path, tree: Tree) -> Iterator[Problem]:
    """Infinities and what is no number, under the keys that the spec does not know: JSON has neither."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _without_bounds(inner, (*path, key), tree)
    elif isinstance(value, float) and not math.isfinite(value):
        yield Problem(path, f"{value} is not accepted", "a finite number", "", tree.origin(path))


def _placed(one: Problem, tree: Tree) -> Problem:
    return Problem(one.path, one.came, one.accepted, one.do, tree.origin(one.path))


def _line(problem: Problem) -> tuple[bool, int]:
    """Sorts by line; what came by `--set` is last."""
    number = problem.origin.rpartition(":")[2]
    return (not number.isdigit(), int(number) if number.isdigit() else 0)
