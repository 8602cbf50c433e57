"""The job with some keys changed: what a trial of a sweep is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from lehr.spec import letters, rules
from lehr.spec import schema as schemas
from lehr.spec.job import Spec
from lehr.spec.place import Problem, refuse
from lehr.spec.tree import Tree


def make(spec: Spec, changes: Mapping[str, Any]) -> Spec:
    """The job without `search:` and with values put at dotted paths.

    Raises:
        SpecError: it is no job.
    """
    made = attempt(spec, changes)
    if isinstance(made, Spec):
        return made
    refuse(made)
    raise AssertionError  # there was a problem


def attempt(spec: Spec, changes: Mapping[str, Any]) -> Spec | list[Problem]:
    """The same, or all that is wrong with it, as its own parts demand it of each other, too."""
    tree = Tree("", document(spec, changes), origins=dict(spec._origins))
    try:
        made = Spec.model_validate(tree.value)
    except ValidationError as error:
        return letters.problems(error, tree)
    made._origins.update(tree.origins)
    return rules.problems(made) or made


def document(spec: Spec, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The variant as plain values. Keys that another `kind` does not have are left out with the old kind."""
    made = spec.document() | {"search": None}
    for path in sorted(changes, key=lambda path: not path.endswith(".kind")):
        _put(made, path.split("."), changes[path])
    return made


def _put(made: dict[str, Any], parts: list[str], value: Any) -> None:
    holder: Any = made
    for part in parts[:-1]:
        if not isinstance(holder.get(part), dict):
            holder[part] = {}
        holder = holder[part]
    if parts[-1] == "kind" and holder.get("kind") != value:
        known = schemas.at((*parts[:-1], f"kind={value}")).get("properties", {})
        for name in holder.keys() - known:
            del holder[name]
    holder[parts[-1]] = value
