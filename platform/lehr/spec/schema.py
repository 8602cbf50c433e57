"""The JSON Schema of a job file, and what it says in words."""

from __future__ import annotations

from functools import cache
from typing import Any

from lehr.spec.job import Spec
from lehr.spec.place import Path, listing

Schema = dict[str, Any]


@cache
def document() -> Schema:
    """JSON Schema (draft 2020-12) of a job file, for editors."""
    made = Spec.model_json_schema()
    made["properties"]["objective"].pop("default", None)
    heading = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "lehr job",
        "description": "A training job of lehr.",
    }
    return heading | {key: _plain(value) for key, value in made.items() if key not in heading}


def _plain(value: Any, *, names: bool = False) -> Any:
    """Without pydantic's titles, which only repeat the keys."""
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    kept = {
        key: inner for key, inner in value.items() if names or key != "title" or not isinstance(inner, str)
    }
    return {key: _plain(inner, names=key in ("properties", "$defs")) for key, inner in kept.items()}


def resolve(schema: Schema) -> Schema:
    """The schema itself, or what its $ref or its only non-null alternative leads to."""
    if "$ref" in schema:
        return resolve(document()["$defs"][schema["$ref"].rpartition("/")[2]])
    alternatives = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    return resolve(alternatives[0]) if len(alternatives) == 1 else schema


def members(schema: Schema) -> list[tuple[str, Schema]]:
    """The kinds of a union, `custom` for the one whose kind is a pattern; empty when it is none."""
    found = []
    for one in map(resolve, resolve(schema).get("oneOf", ())):
        found.append((one["properties"]["kind"].get("const", "custom"), one))
    return found


def at(location: Path) -> Schema:
    """The schema of what pydantic calls `location` (union members are `kind=...`); {} when there is none."""
    here: Schema = document()
    for part in location:
        here = resolve(here)
        if isinstance(part, int):
            here = dict(enumerate(here.get("prefixItems", ()))).get(part) or here.get("items", {})
        elif part.startswith("kind="):
            here = dict(members(here)).get(part.removeprefix("kind="), {})
        else:
            here = here.get("properties", {}).get(part) or named_freely(here)
    return here


def named_freely(schema: Schema) -> Schema:
    """What stands under every name of a mapping whose names are the user's."""
    inner = schema.get("additionalProperties")
    return inner if isinstance(inner, dict) else {}


def words(schema: Schema) -> str:
    """What a schema accepts, in a few words."""
    nullable = any(one.get("type") == "null" for one in schema.get("anyOf", ()))
    if nullable:
        return f"{words(resolve(schema))}, or null"
    schema = resolve(schema)
    if "anyOf" in schema:
        return " or ".join(words(one) for one in schema["anyOf"])
    if "const" in schema:
        return _literal(schema["const"])
    if "enum" in schema:
        return " | ".join(_literal(one) for one in schema["enum"])
    if kinds := [name for name, _ in members(schema)]:
        plain = [name for name in kinds if name != "custom"]
        custom = ", or package.module:Attribute" if "custom" in kinds else ""
        return f"a mapping with kind: {' | '.join(plain)}{custom}"
    return _words_of_type(schema)


def _literal(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _words_of_type(schema: Schema) -> str:
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return ("a whole number" if kind == "integer" else "a number") + _bounds(schema)
    if kind == "boolean":
        return "true or false"
    if kind == "string":
        return str(schema.get("patternErrorMessage", "text"))
    if kind == "array":
        if "minItems" in schema and schema["minItems"] == schema.get("maxItems"):
            item = schema.get("items") or schema["prefixItems"][0]
            return f"a list of {schema['minItems']}, each {words(item)}"
        return f"a list, each {words(schema['items'])}"
    if kind == "object" and "errorMessage" in schema:
        return str(schema["errorMessage"])
    if kind == "object" and "properties" in schema:
        names = listing(list(schema["properties"]))
        return f"exactly one of {names}" if schema.get("maxProperties") == 1 else f"a mapping with {names}"
    if kind == "object":
        return "a mapping with at least one key" if schema.get("minProperties") else "a mapping"
    return "any value"


def _bounds(schema: Schema) -> str:
    parts = [
        f"{sign} {schema[key]:g}" if isinstance(schema[key], float) else f"{sign} {schema[key]}"
        for key, sign in (
            ("minimum", "at least"),
            ("exclusiveMinimum", "above"),
            ("maximum", "at most"),
            ("exclusiveMaximum", "below"),
        )
        if key in schema
    ]
    return ", ".join(["", *parts]) if parts else ""
