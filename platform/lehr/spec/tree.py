"""A job file as a tree of plain values that remembers the line of each.

The reader follows YAML 1.2's core schema, so `on` is text, `1e-4` is a number and `2026-01-01` is not a date,
and it refuses duplicate keys. PyYAML's own loader follows YAML 1.1, where all of this is otherwise. The
writer quotes by the same rules.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from lehr.errors import SpecError, letter
from lehr.spec.place import Path, Problem
from lehr.spec.secrets import show

NODES = 20_000  # aliases multiply: a file of a few lines can stand for billions of values
_PREFIX = "tag:yaml.org,2002:"
_PLAIN = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
)


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with the plain scalars of YAML 1.2; only `compose` is used."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


class _Dumper(yaml.SafeDumper):
    """The writer that `_Loader` reads back."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """PyYAML folds the line breaks of Unicode when it quotes them singly."""
        odd = any(character in text for character in "\x85\u2028\u2029")
        return self.represent_scalar(f"{_PREFIX}str", text, style='"' if odd else None)


_Dumper.add_representer(str, _Dumper.represent_text)
for _name, _pattern, _first in _PLAIN:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_PREFIX + _name, re.compile(rf"(?:{_pattern})\Z"), _first)


@dataclass
class Tree:
    """Values of a job file, the origin of each by path, and what is wrong with them so far."""

    source: str
    value: Any = None
    origins: dict[Path, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def origin(self, path: Path) -> str:
        """Where the value at `path` was written, or the nearest thing around it that was."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return self.source

    def problem(self, path: Path, came: str, *, accepted: str = "", do: str = "") -> None:
        """Note a problem at `path`."""
        self.problems.append(Problem(path, came, accepted, do, self.origin(path)))


def write(value: Any) -> str:
    """Plain values as YAML that `read` gives back unchanged."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def read(text: str, source: str) -> Tree:
    """The tree of one YAML document. Duplicate keys and odd tags become problems in it.

    Raises:
        SpecError: the text is not YAML, or holds no document or more than one.
    """
    loader = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        origin = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise SpecError(letter(origin, _unreadable(error), do=_advice(error))) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        code = ord(error.character) if isinstance(error.character, str) else int(error.character)
        came = f"character U+{code:04X} is not allowed in YAML"
        raise SpecError(letter(f"{source}:{line}", came, do="remove it")) from None
    except RecursionError:
        raise SpecError(letter(source, "nested too deep to be a job file")) from None
    finally:
        if loader is not None:
            loader.dispose()
    tree = Tree(source)
    tree.value = _Builder(tree).build(root, ()) if root is not None else None
    return tree


def _unreadable(error: yaml.MarkedYAMLError) -> str:
    """PyYAML's words without its snippet of the file, which may hold anything."""
    context = f" {error.context}," if error.context else ""
    return f"not YAML:{context} {error.problem}"


def _advice(error: yaml.MarkedYAMLError) -> str:
    problem = str(error.problem)
    if "'\\t'" in problem or "tab" in problem:
        return "indent with spaces; YAML has no tabs there"
    if "another document" in problem:
        return "one file holds one job: remove what follows the `---`"
    if "mapping values are not allowed" in problem:
        return "quote the text if it holds a colon, or mend the indentation"
    return ""


class _Builder:
    """Values from composed nodes. One a file: it counts how many it has made."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._made = 0
        self._open: list[yaml.Node] = []

    def build(self, node: yaml.Node, path: Path) -> Any:
        self._made += 1
        self._tree.origins.setdefault(path, f"{self._tree.source}:{node.start_mark.line + 1}")
        if self._made > NODES or node in self._open:
            raise SpecError(letter(self._tree.origin(path), "aliases make this file endless or enormous"))
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self._open.append(node)
        try:
            if not isinstance(node, yaml.SequenceNode):
                return self._mapping(node, path)
            if node.tag != f"{_PREFIX}seq":
                self._tag(node, path)
            return [self.build(child, (*path, index)) for index, child in enumerate(node.value)]
        finally:
            self._open.pop()

    def _mapping(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        if node.tag != f"{_PREFIX}map":
            self._tag(node, path)
        made: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if key is None:
                continue
            here = (*path, key)
            if key in made:
                first = self._tree.origins[here].rpartition(":")[2]
                origin = f"{self._tree.source}:{key_node.start_mark.line + 1}"
                came = f"the key is written a second time (first on line {first})"
                self._tree.problems.append(Problem(here, came, do="keep one of them", origin=origin))
                continue
            self._tree.origins[here] = f"{self._tree.source}:{key_node.start_mark.line + 1}"
            made[key] = self.build(value_node, here)
        return made

    def _key(self, node: yaml.Node, path: Path) -> str | None:
        """A mapping's key as text; None, and a problem, when it is a list, a mapping or a merge key."""
        if isinstance(node, yaml.ScalarNode) and node.value != "<<":
            return str(node.value)
        origin = f"{self._tree.source}:{node.start_mark.line + 1}"
        came, do = "a key that is not text", "write a plain name before the colon"
        if isinstance(node, yaml.ScalarNode):
            came, do = "merge keys (<<) are not accepted", "write the keys out, or alias the whole value"
        self._tree.problems.append(Problem(path, came, do=do, origin=origin))
        return None

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        text = str(node.value)
        name = node.tag.removeprefix(_PREFIX)
        if name == "str":
            return text
        if name == "null":
            return None
        if name == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        try:
            if name == "int":
                return int(text, 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10)
            if name == "float":
                return float(re.sub(r"\.(inf|nan)$", r"\1", text.lower()))
        except ValueError:
            self._tree.problem(path, f"{show(text)} is not a number that can be read")
            return None
        self._tag(node, path)
        return text

    def _tag(self, node: yaml.Node, path: Path) -> None:
        tag = node.tag.replace(_PREFIX, "!!")
        self._tree.problem(path, f"the tag {show(tag)} is not accepted", do="write the value without a tag")
