"""The one override mechanism: `--set a.b=YAML`, applied to the tree before it is validated.

The value replaces whatever is at the path, a whole mapping too. Later overrides win over earlier ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lehr.errors import SpecError, letter
from lehr.spec import tree as trees
from lehr.spec.place import Path, Problem, dotted
from lehr.spec.secrets import show
from lehr.spec.tree import Tree

FORM = (
    "--set path.to.key=VALUE, the value in YAML: --set sampler.steps=40, --set 'train.duration={steps: 40}'"
)


def apply(tree: Tree, sets: Sequence[str]) -> None:
    """Change `tree` by every override in turn. Those that cannot be applied become problems in it."""
    for text in sets:
        try:
            _apply(tree, text)
        except SpecError as error:
            came, _, rest = str(error).removeprefix("--set: ").partition("\n  do: ")
            tree.problems.append(Problem((), came, FORM, rest, _origin(text)))


def _origin(text: str) -> str:
    """How messages name an override: without its value, which may be a secret."""
    return f"--set {show(text.partition('=')[0]).strip(chr(39))}"


def _apply(tree: Tree, text: str) -> None:
    name, equals, value = text.partition("=")
    path = _parts(name.strip())
    if not equals or not all(path):
        raise SpecError(letter("--set", "this is not an override"))
    origin = _origin(text)
    given = trees.read(value, origin)
    tree.problems.extend(_moved(given.problems, path, origin))
    place, holder = _holder(tree, path)
    key = _index(holder, path[-1]) if isinstance(holder, list) else path[-1]
    holder[key] = given.value
    _forget(tree, (*place, key))
    tree.origins |= {(*place, key, *below): origin for below in given.origins} | {(*place, key): origin}


def _parts(name: str) -> tuple[str, ...]:
    """The parts of an override's path. A range of a search stands under a whole path, which is one part."""
    parts = name.split(".")
    whole = parts[:2] == ["search", "space"] and all(parts)
    return (*parts[:2], ".".join(parts[2:])) if whole and len(parts) > 2 else tuple(parts)


def _holder(tree: Tree, path: Sequence[str]) -> tuple[Path, Any]:
    """The mapping or list that holds the path's last part, made where nothing was, and its own path."""
    if not isinstance(tree.value, dict):
        raise SpecError(letter("--set", "there is no mapping to change at the top of the file"))
    here: Any = tree.value
    place: Path = ()
    for part in path[:-1]:
        key = _index(here, part) if isinstance(here, list) else part
        if isinstance(here, dict) and here.get(part) is None:
            here[part] = {}
        place, here = (*place, key), here[key]
        if not isinstance(here, dict | list):
            raise SpecError(
                letter(
                    "--set",
                    f"{dotted(place)} is {show(here)}: nothing can be set inside it",
                    do=f"replace it whole: --set '{dotted(place)}={{...}}'",
                )
            )
    return place, here


def _index(values: list[Any], part: str) -> int:
    """A list's index from the text of a path's part."""
    if not part.isdecimal() or int(part) >= len(values):
        last = len(values) - 1
        raise SpecError(
            letter("--set", f"{show(part)} is no place in a list of {len(values)}", do=f"use 0 to {last}")
        )
    return int(part)


def _forget(tree: Tree, path: Path) -> None:
    """Drop the lines of what is replaced."""
    for old in [known for known in tree.origins if known[: len(path)] == path]:
        del tree.origins[old]


def _moved(problems: Iterable[Problem], path: Sequence[str], origin: str) -> list[Problem]:
    return [Problem((*path, *one.path), one.came, one.accepted, one.do, origin) for one in problems]
