"""What is wrong with a value, and what to write instead where it can be guessed."""

from __future__ import annotations

from typing import Any

from lehr.spec.place import nearest
from lehr.spec.schema import Schema, resolve
from lehr.spec.secrets import show

_SORTS = {str: "text", bool: "a truth value", int: "a whole number", float: "a number"}
_TYPES: dict[str, tuple[type, ...]] = {
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
}
_TRUTH = {"yes": "true", "y": "true", "on": "true", "no": "false", "n": "false", "off": "false"}


def came(given: Any, schema: Schema) -> str:
    """What came, and whether its type or only its value is wrong."""
    if isinstance(given, list | tuple) and all(isinstance(one, int | float) for one in given):
        return f"{list(given)!r:.60} is not accepted"
    if given == {}:
        return "an empty mapping came"
    expected = _expected(resolve(schema))
    fits = isinstance(given, expected) and (bool in expected or not isinstance(given, bool))
    return f"{show(given)} is not accepted" if fits else misfit(given)


def _expected(schema: Schema) -> tuple[type, ...]:
    """The types that a schema accepts some values of."""
    parts = [part for one in schema.get("anyOf", ()) for part in _expected(resolve(one))]
    values = [
        type(one) for one in (*schema.get("enum", ()), *([schema["const"]] if "const" in schema else []))
    ]
    return (*_TYPES.get(str(schema.get("type")), ()), *parts, *values)


def misfit(given: Any) -> str:
    """That the value is of the wrong type."""
    sort = _SORTS.get(type(given))
    return f"{show(given)} is {sort}" if sort else f"{show(given)} came"


def turned(given: Any) -> str:
    """What to write for two ends of which the first is the larger."""
    numbers = isinstance(given, list | tuple) and len(given) == 2 and _are_numbers(given)
    return f"write [{given[1]:g}, {given[0]:g}]" if numbers and given[0] > given[1] else ""


def _are_numbers(given: Any) -> bool:
    return all(isinstance(one, int | float) and not isinstance(one, bool) for one in given)


def instead(given: Any, schema: Schema) -> str:
    """What to write, or nothing when it cannot be guessed."""
    schema = resolve(schema)
    if isinstance(given, list | tuple) and "choice" in schema.get("properties", {}):
        return _range(given)
    if isinstance(given, str):
        return _instead_of_text(given, schema)
    if isinstance(given, bool) and "on" in schema.get("enum", ()):
        return f"write {'on' if given else 'off'}"
    if isinstance(given, float) and schema.get("type") == "integer" and given.is_integer():
        return f"write {int(given)}"
    return "leave the key out for the default" if given is None else ""


def _instead_of_text(given: str, schema: Schema) -> str:
    choices = [str(one) for one in schema.get("enum", ()) if isinstance(one, str)]
    truth = schema.get("type") == "boolean" or any(one is True for one in schema.get("enum", ()))
    if truth and given.lower() in _TRUTH:
        return f"write {_TRUTH[given.lower()]}"
    if close := nearest(given, choices):
        return f"did you mean {close}?"
    return (
        "remove the quotes" if schema.get("type") in ("integer", "number") and _reads_as_number(given) else ""
    )


def _range(given: Any) -> str:
    """A range from what was meant to be one, without its kind."""
    if len(given) != 2 or not _are_numbers(given):
        return "write choice: before the list"
    kind = "int" if all(isinstance(one, int) for one in given) else "uniform"
    return f"write {{{kind}: [{given[0]:g}, {given[1]:g}]}}, or {{choice: ...}} for these values alone"


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
