"""The numbers of platform/README.md, section 9: short functions and modules, few arguments."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from architecture import source

MODULE_LINES = 400
MODULE_MEDIAN = 200
FUNCTION_MEDIAN = 10
ARGUMENTS = 6

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source_folder: Path) -> Iterator[tuple[str, Function]]:
    """Every function and method with its name and place."""
    for name, path in source.modules(source_folder).items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, Function):
                yield f"{path.relative_to(source_folder.parent)}:{node.lineno} {name}.{node.name}", node


def body_lines(node: Function) -> int:
    """Lines of a function's body without its docstring."""
    statements = node.body[1:] if ast.get_docstring(node) else node.body
    return (statements[-1].end_lineno or 0) - statements[0].lineno + 1 if statements else 0


def arguments(node: Function) -> list[ast.arg]:
    """All that a caller passes, without self."""
    named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return [argument for argument in named if argument.arg not in ("self", "cls")]


def switches(node: Function) -> list[str]:
    """Positional arguments that are booleans: at the call nobody can tell what `True` means."""
    positional = [*node.args.posonlyargs, *node.args.args]
    return [
        a.arg for a in positional if a.annotation and ast.unparse(a.annotation) in ("bool", "bool | None")
    ]


def is_command(name: str) -> bool:
    """Commands are called by Typer with keywords, and have an argument an option."""
    return " lehr.cli." in name


def is_exempt(node: Function) -> bool:
    """The signature is a framework's: Keras calls `call(inputs, training)`, Pydantic its validators."""
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    return node.name == "call" or any("validator" in decorator for decorator in decorators)


def test_modules_are_short(record_property: pytest.RecordProperty) -> None:
    lines = {name: len(path.read_text().splitlines()) for name, path in source.modules(source.SOURCE).items()}
    record_property("median module, lines", statistics.median(lines.values()))
    assert {name: count for name, count in lines.items() if count > MODULE_LINES} == {}
    assert statistics.median(lines.values()) < MODULE_MEDIAN


def test_functions_are_short(record_property: pytest.RecordProperty) -> None:
    median = statistics.median(body_lines(node) for _, node in functions(source.SOURCE))
    record_property("median function, lines", median)
    assert median < FUNCTION_MEDIAN


def test_functions_take_few_arguments() -> None:
    many = {
        name: len(arguments(node))
        for name, node in functions(source.SOURCE)
        if len(arguments(node)) > ARGUMENTS and not is_command(name)
    }
    assert many == {}


def test_no_switch_is_positional() -> None:
    found = {
        name: switches(node)
        for name, node in functions(source.SOURCE)
        if switches(node) and not is_command(name) and not is_exempt(node)
    }
    assert found == {}, "write `*,` before it: at the call `True` alone says nothing"


def test_measures_measure() -> None:
    text = (
        'def f(self, a, b: bool, *, c: bool):\n    """One.\n\n    Two.\n    """\n    x = 1\n\n    return x\n'
    )
    [node] = ast.parse(text).body
    assert isinstance(node, ast.FunctionDef)
    assert body_lines(node) == 3
    assert [a.arg for a in arguments(node)] == ["a", "b", "c"]
    assert switches(node) == ["b"]
