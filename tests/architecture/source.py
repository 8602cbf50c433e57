"""Reads the package with `ast` and the tables of platform/README.md, and finds where they part."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "platform"
PAGE = SOURCE / "README.md"
SECTION = "platform/README.md, section 4"


@dataclass(frozen=True)
class Import:
    """One imported name: `importer` and `target` are dotted; `typing_only` is under `if TYPE_CHECKING`."""

    importer: str
    target: str
    where: str
    typing_only: bool


@dataclass(frozen=True)
class Row:
    """A row of the first table: `number` counts from the top, 1."""

    number: int
    rooms: tuple[str, ...]


@dataclass(frozen=True)
class Rule:
    """A row of the second or third table: what may import what, and the line that says so."""

    line: str
    left: tuple[str, ...]
    right: tuple[str, ...]


def section(page: str, number: int) -> str:
    """The text of one `## number. title` section."""
    found = re.search(rf"^## {number}\. .*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"the page has no section {number}"
    return found[0]


def rows(page: str) -> list[Row]:
    """The layers, top first, from the fenced block of section 4."""
    block = section(page, 4).split("```")[1]
    lines = [re.split(r"\s{2,}", line.strip())[0] for line in block.strip().splitlines()]
    return [Row(i, tuple(name.strip() for name in line.split("|"))) for i, line in enumerate(lines, start=1)]


def rules(page: str, heading: str) -> list[Rule]:
    """The rows of the table in section 4 whose first column is `heading`; names stand in backticks."""
    lines = iter(section(page, 4).splitlines())
    for line in lines:
        if line.startswith(f"| {heading} |"):
            break
    else:
        raise AssertionError(f"section 4 has no table of {heading!r}")
    next(lines)
    found = []
    for line in lines:
        if not line.startswith("|"):
            break
        left, *_, right = line.strip("|").split("|")
        found.append(Rule(line, tuple(re.findall("`([^`]+)`", left)), tuple(re.findall("`([^`]+)`", right))))
    return found


def modules(source: Path) -> dict[str, Path]:
    """Dotted name of every module of the package `lehr` under `source`."""
    found = {}
    for path in sorted((source / "lehr").rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room(module: str) -> str:
    """The part of `lehr` that a dotted name belongs to; the entry `python -m lehr` is part of the cli."""
    parts = module.split(".")
    name = parts[1] if len(parts) > 1 else ""
    return "cli" if name == "__main__" else name


def is_typing_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def walk(node: ast.AST, *, typing_only: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node below, with whether it is under `if TYPE_CHECKING` (and not in its `else`)."""
    for name, value in ast.iter_fields(node):
        guarded = typing_only or (is_typing_guard(node) and name == "body")
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child, guarded
                yield from walk(child, typing_only=guarded)


def targets(node: ast.AST, package: str) -> list[str]:
    """Dotted names that one statement or call imports; `package` resolves relative imports."""
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=module, names=names, level=level):
            above = package.split(".")[: len(package.split(".")) - level + 1] if level else []
            base = ".".join([*above, *([module] if module else [])])
            return [f"{base}.{alias.name}" for alias in names]
        case ast.Call(
            func=ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module"),
            args=[ast.Constant(value=str() as name), *_],
        ):
            return [name]
    return []


def imports(source: Path) -> list[Import]:
    """Every import of the package, wherever it stands in its module."""
    found = []
    for name, path in modules(source).items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for node, typing_only in walk(ast.parse(path.read_text())):
            for target in targets(node, package):
                where = f"{path.relative_to(source.parent)}:{getattr(node, 'lineno', 0)}"
                found.append(Import(name, target, where, typing_only))
    return found


def belongs(module: str, place: str) -> bool:
    """Whether a dotted module lies in a place of the tables (`launch`, `strategies.horovod`)."""
    inside = module.removeprefix("lehr.")
    return inside == place or inside.startswith(f"{place}.")


def broken_rows(source: Path, page: str) -> list[str]:
    """Imports that go sideways or upwards, and rooms that no row names; one sentence each."""
    table = rows(page)
    level = {name: row for row in table for name in row.rooms}
    homeless = {room(name) for name in modules(source)} - set(level) - {""}
    level[""] = Row(
        len(table) + 1, ()
    )  # lehr/__init__.py: everybody may import it, so it imports nothing of lehr
    found = [f"lehr.{name} stands in no row of {SECTION}: give it one" for name in sorted(homeless)]
    for item in imports(source):
        here, there = room(item.importer), room(item.target)
        if not item.target.startswith("lehr.") or here == there or not {here, there} <= set(level):
            continue
        # A type hint makes nothing run: it may look sideways, but not up.
        allowed = level[there].number > level[here].number or (
            item.typing_only and level[there] == level[here]
        )
        if not allowed:
            found.append(
                f"{item.where}: {item.importer} (row {level[here].number}) imports {item.target} "
                f"(row {level[there].number}); a module imports only from rows below its own ({SECTION})"
            )
    return found


def broken_libraries(source: Path, page: str) -> list[str]:
    """Libraries imported outside the rooms that may know them; each names the row that was broken."""
    found = []
    for rule in rules(page, "library"):
        for item in imports(source):
            used = item.target.split(".")[0] in rule.left
            if used and not any(belongs(item.importer, place) for place in rule.right):
                found.append(
                    f"{item.where}: {item.importer} imports {item.target}, against {rule.line!r} ({SECTION})"
                )
    return found


def broken_ignorance(source: Path, page: str) -> list[str]:
    """Rooms that import what they must know nothing of; each names the row of the table that was broken."""
    found = []
    for rule in rules(page, "room"):
        for item in imports(source):
            inside = any(belongs(item.importer, place) for place in rule.left)
            if inside and item.target.startswith("lehr.") and room(item.target) in rule.right:
                found.append(
                    f"{item.where}: {item.importer} imports {item.target}, against {rule.line!r} ({SECTION})"
                )
    return found
