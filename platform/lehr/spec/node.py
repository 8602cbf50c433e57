"""What every node of the spec is, and the types that its fields are made of.

A field's type holds its bounds; its `description` is one line for `jobs/README.md` and the JSON Schema.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from lehr.spec.place import listing, nearest
from lehr.spec.secrets import ACCEPTED, REFERENCE

# What fsspec has a filesystem for, that a run could be kept in (or, for the rest, read from).
# fmt: off
WRITABLE = (
    "file", "local", "memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "ocilake",
    "oss", "tos", "tosfs", "hdfs", "arrow_hdfs", "webhdfs", "dbfs", "smb", "sftp", "ssh", "ftp", "webdav",
    "hf", "gdrive", "dropbox", "box", "lakefs",
)
# fmt: on
READABLE = (*WRITABLE, "http", "https", "github", "git", "zip", "tar")
_WITHOUT_HOST = ("file", "local", "memory", "hdfs", "arrow_hdfs", "dbfs")


class Node(BaseModel):
    """A mapping in a job file: frozen, no unknown keys, no guessing of types, no infinities."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def tag(node: Any) -> str | None:
    """The union member that a node asks for: `kind=ebm`, or `kind=custom` for `module:Attribute`."""
    kind = node.get("kind") if isinstance(node, dict) else getattr(node, "kind", None)
    if not isinstance(kind, str):
        return None
    return "kind=custom" if ":" in kind else f"kind={kind}"


def as_tuple(value: Any) -> Any:
    """YAML's lists as tuples, which are frozen."""
    return tuple(value) if isinstance(value, list) else value


def check_url(schemes: tuple[str, ...]) -> Callable[[str], str]:
    """A validator for a local path or a URL with one of `schemes`."""

    def check(value: str) -> str:
        scheme, mark, rest = value.partition("://")
        if wrong := _bad_path(value, has_scheme=bool(mark)):
            raise PydanticCustomError("url", wrong)
        if mark and scheme not in schemes:
            close = nearest(scheme, schemes)
            hint = f"; did you mean {close}://?" if close else f"; known: {listing(schemes)}"
            raise PydanticCustomError(
                "url", "no store for {scheme}://{hint}", {"scheme": scheme, "hint": hint}
            )
        if mark and scheme not in _WITHOUT_HOST and not re.match(r"[^/\s]", rest):
            raise PydanticCustomError("url", "no bucket or host after {scheme}://", {"scheme": scheme})
        return value

    return check


def _bad_path(value: str, *, has_scheme: bool) -> str | None:
    if not value.strip() or value != value.strip():
        return "an empty path, or blanks around it"
    if any(ord(character) < 32 for character in value) or (has_scheme and " " in value):
        return "a URL with a blank or a control character in it"
    broken = re.match(r"([a-z][a-z0-9_]*)(?::[/\\]*|//)", value)
    if not has_scheme and broken and broken[1] in READABLE:
        return f"a URL lacks its :// with two forward slashes: {broken[1]}://..."
    return None


def _workers(value: Any) -> Any:
    if _count(value):
        return value
    if (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(map(_count, value))
        and value[0] <= value[1]
    ):
        return tuple(value)
    raise PydanticCustomError("workers", "neither a number of workers nor a range of them")


def _units(value: Any) -> Any:
    value = as_tuple(value)
    if _count(value) or (isinstance(value, tuple) and value and all(map(_count, value))):
        return value
    raise PydanticCustomError("units", "neither a number of units nor a list of them")


def _step(value: Any) -> Any:
    if value == "latest" or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise PydanticCustomError("step", "neither a step nor latest")


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] >= value[1]:
        raise PydanticCustomError("range", "the lower end is not below the upper end")
    return value


def _patterned(pattern: str, accepted: str) -> Any:
    """Text that matches a pattern; editors and error messages say `accepted` instead of the pattern."""
    return Annotated[str, Field(pattern=pattern, json_schema_extra={"patternErrorMessage": accepted})]


_WORD = "[A-Za-z_][A-Za-z0-9_]*"
Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Counts = Annotated[tuple[Count, ...], Field(min_length=1), BeforeValidator(as_tuple)]
rising = AfterValidator(_rising)
Interval = Annotated[tuple[float, float], BeforeValidator(as_tuple), rising]
Texts = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]
Text = Annotated[str, Field(min_length=1)]
Options = dict[str, Any]
Source = Annotated[str, Field(min_length=1), AfterValidator(check_url(READABLE))]
Target = Annotated[str, Field(min_length=1), AfterValidator(check_url(WRITABLE))]
Secret = _patterned(REFERENCE, ACCEPTED)
Attribute = _patterned(rf"^{_WORD}(\.{_WORD})*:{_WORD}$", "package.module:Attribute")
Name = _patterned(
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", "1 to 100 letters, digits, dots, hyphens and underscores"
)
Metric = _patterned(r"^(train|validation)/[a-z][a-z0-9_]*$", "train/NAME or validation/NAME")
_ONE_OR_RANGE = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 2, "maxItems": 2},
    ]
}
_ONE_OR_SEVERAL = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1},
    ]
}
_STEP = {"anyOf": [{"type": "integer", "minimum": 0}, {"const": "latest"}]}
Workers = Annotated[int | tuple[int, int], BeforeValidator(_workers), WithJsonSchema(_ONE_OR_RANGE)]
Units = Annotated[int | tuple[int, ...], BeforeValidator(_units), WithJsonSchema(_ONE_OR_SEVERAL)]
Step = Annotated[int | str, BeforeValidator(_step), WithJsonSchema(_STEP)]
