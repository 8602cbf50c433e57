"""Pydantic's errors as problems in the job file's own words."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from lehr.spec import advice
from lehr.spec import schema as schemas
from lehr.spec.place import Path, Problem, dotted, listing, nearest
from lehr.spec.search import CALLED_ELSEWHERE
from lehr.spec.secrets import show
from lehr.spec.tree import Tree

_URL = "a folder, or a URL such as s3://bucket/prefix"


def problems(error: ValidationError, tree: Tree) -> list[Problem]:
    """Every error of a validation, once, with its place in the file."""
    details = [one for one in error.errors(include_url=False) if not _echo(one, error)]
    return [_problem(one, tree) for one in details]


def _echo(one: ErrorDetails, error: ValidationError) -> bool:
    """Whether it only repeats another: a list is called too short because its items were refused."""
    inside = (other["loc"] for other in error.errors(include_url=False))
    here = one["loc"]
    return one["type"] == "too_short" and any(loc[: len(here)] == here and loc != here for loc in inside)


def _plain(location: Path) -> Path:
    """The path in the file: without the union members that pydantic adds."""
    return tuple(part for part in location if not (isinstance(part, str) and part.startswith("kind=")))


def _problem(one: ErrorDetails, tree: Tree) -> Problem:
    location, path = one["loc"], _plain(one["loc"])
    make = {
        "extra_forbidden": _unknown_key,
        "missing": _missing,
        "union_tag_invalid": _unknown_kind,
        "union_tag_not_found": _no_kind,
    }.get(one["type"], _unfit)
    came, accepted, do = make(one, location)
    if path == ("objective",) and one["input"] is None:
        came, accepted, do = _no_objective()
    return Problem(path, came, accepted, do, tree.origin(path))


def _unknown_key(one: ErrorDetails, location: Path) -> tuple[str, str, str]:
    names = list(schemas.resolve(schemas.at(location[:-1])).get("properties", {}))
    name = str(location[-1])
    if location[:2] == ("search", "space") and name in CALLED_ELSEWHERE:
        return "unknown key", listing(names), f"here it is called {CALLED_ELSEWHERE[name]}"
    if close := nearest(name, names):
        return "unknown key", listing(names), f"did you mean {close}?"
    return "unknown key", listing(names), _elsewhere(name)


def _elsewhere(name: str) -> str:
    """Where a key that is not known here does belong."""
    places = {str(path[-1]): path for path in reversed(_every_path())}
    close = nearest(name, places)
    if close is None:
        return ""
    place = places[close][:-1]
    kind = f" of kind {str(place[-1]).removeprefix('kind=')}" if place and _plain(place) != place else ""
    return f"{close} belongs {f'under {dotted(_plain(place))}{kind}' if place else 'at the top'}"


def _missing(one: ErrorDetails, location: Path) -> tuple[str, str, str]:
    return "missing", schemas.words(schemas.at(location)), f"add {location[-1]}"


def _unknown_kind(one: ErrorDetails, location: Path) -> tuple[str, str, str]:
    kinds = [name for name, _ in schemas.members(schemas.at(location))]
    plain = [name for name in kinds if name != "custom"]
    given = one["input"]["kind"]
    close = nearest(given, plain)
    accepted = listing(plain) + (", or package.module:Attribute for your own" if "custom" in kinds else "")
    return f"kind: {show(given)} is not known", accepted, f"did you mean {close}?" if close else ""


def _no_kind(one: ErrorDetails, location: Path) -> tuple[str, str, str]:
    given, accepted = one["input"], schemas.words(schemas.at(location))
    if isinstance(given, Mapping):
        return ("kind is missing" if given.get("kind") is None else "kind is no text"), accepted, ""
    known = [name for name, _ in schemas.members(schemas.at(location))]
    do = f"write {location[-1]}: {{kind: {given}}}" if isinstance(given, str) and given in known else ""
    return advice.misfit(given), accepted, do


def _no_objective() -> tuple[str, str, str]:
    accepted = schemas.words(schemas.at(("objective",)))
    return "missing: a model of your own has no default objective", accepted, "add objective: {kind: ...}"


def _unfit(one: ErrorDetails, location: Path) -> tuple[str, str, str]:
    """A value of the wrong type or outside its bounds."""
    given, schema = one["input"], schemas.at(location)
    if one["type"] == "url":
        return f"{show(given)}: {one['msg']}", _URL, ""
    if one["type"] in ("one_unit", "range"):
        return one["msg"], schemas.words(schema), advice.turned(given)
    return advice.came(given, schema), schemas.words(schema), advice.instead(given, schema)


def _every_path() -> list[Path]:
    """The path of every key in the schema; union members are parts of it, as pydantic has it."""
    found: list[Path] = []

    def walk(schema: schemas.Schema, path: Path) -> None:
        for kind, member in schemas.members(schema):
            walk(member, (*path, f"kind={kind}"))
        for name, inner in schemas.resolve(schema).get("properties", {}).items():
            found.append((*path, name))
            walk(inner, (*path, name))

    walk(schemas.document(), ())
    return found
