"""Dotted paths of a job: which there are, and what may stand at them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from lehr.spec import schema as schemas
from lehr.spec.place import nearest
from lehr.spec.schema import Schema

MISSING: Any = object()


def value_at(document: Mapping[str, Any], path: str) -> Any:
    """What stands at a path of plain values; MISSING where there is no such place."""
    here: Any = document
    for part in path.split("."):
        if not isinstance(here, Mapping) or part not in here:
            return MISSING
        here = here[part]
    return here


def below(schema: Schema) -> dict[str, Schema]:
    """The keys of a mapping; those of all kinds together where it has kinds."""
    found: dict[str, Schema] = {}
    for part in [one for _, one in schemas.members(schema)] or [schemas.resolve(schema)]:
        found |= {name: inner for name, inner in part.get("properties", {}).items() if name not in found}
    return found


def find(path: str) -> Schema | None:
    """The schema at a path, under any kind; None: a job has no such key."""
    here: Schema | None = schemas.document()
    for part in path.split("."):
        here = below(here).get(part) if here is not None else None
    return here


def siblings(path: str) -> list[str]:
    """The keys of the deepest mapping that a path leads into."""
    here = schemas.document()
    for part in path.split("."):
        if not below(below(here).get(part, {})):
            break
        here = below(here)[part]
    return list(below(here))


@cache
def every() -> Sequence[str]:
    """Every path, mappings included."""
    return tuple(_walk(schemas.document(), ""))


def _walk(schema: Schema, before: str) -> Iterator[str]:
    for name, inner in below(schema).items():
        yield before + name
        yield from _walk(inner, f"{before}{name}.")


def meant(path: str, among: Sequence[str]) -> str | None:
    """The path that was most likely meant: by its whole, else by its last part."""
    last = path.rpartition(".")[2]
    ends = {one.rpartition(".")[2]: one for one in reversed(among)}
    if last in ends:
        return ends[last]
    if close := nearest(path, among):
        return close
    return ends[close] if (close := nearest(last, ends)) else None


def is_mapping(schema: Schema) -> bool:
    """Whether keys stand there, and no value."""
    return bool(below(schema))
