"""The tables of platform/README.md, section 4, against the code; and planted violations against the judge."""

from __future__ import annotations

from pathlib import Path

import pytest

from architecture import source

PAGE = source.PAGE.read_text()


def report(broken: list[str]) -> str:
    return "\n".join(["", *broken])


def test_imports_go_down_the_rows() -> None:
    broken = source.broken_rows(source.SOURCE, PAGE)
    assert not broken, report(broken)


def test_libraries_stay_in_their_rooms() -> None:
    broken = source.broken_libraries(source.SOURCE, PAGE)
    assert not broken, report(broken)


def test_rooms_import_nothing_of_what_they_must_not_know() -> None:
    broken = source.broken_ignorance(source.SOURCE, PAGE)
    assert not broken, report(broken)


def test_tables_name_only_what_exists() -> None:
    names = set(source.modules(source.SOURCE))
    listed = {name for row in source.rows(PAGE) for name in row.rooms}
    for heading in ("library", "room"):
        for rule in source.rules(PAGE, heading):
            listed |= set(rule.right if heading == "library" else rule.left + rule.right)
    stale = sorted(place for place in listed if f"lehr.{place}" not in names)
    assert not stale, f"{source.SECTION} names what does not exist: {stale}"


def test_tables_are_read_whole() -> None:
    """A table that the reader no longer understands must not pass as a table without rules."""
    table = source.rows(PAGE)
    assert table[0].rooms == ("cli",)
    assert table[-1].rooms == ("errors",)
    assert "strategies" in next(row for row in table if "models" in row.rooms).rooms
    libraries = {name: rule.right for rule in source.rules(PAGE, "library") for name in rule.left}
    assert libraries["ray"] == ("launch",)
    assert "strategies.horovod" in libraries["horovod"]
    assert {"tensorflow", "keras", "wandb", "fsspec", "pydantic", "yaml"} <= set(libraries)
    assert len(source.imports(source.SOURCE)) > 100


def plant(folder: Path, modules: dict[str, str]) -> Path:
    """A package `lehr` under `folder`; {"models/net": "..."} is the module lehr.models.net with that text."""
    for name, text in modules.items():
        path = folder / "lehr" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        for parent in path.relative_to(folder).parents[:-1]:
            (folder / parent / "__init__.py").touch()
        path.write_text(text)
    return folder


ROWS_BROKEN = {
    "upwards": (
        "models/net",
        "from lehr.worker import main\n",
        "lehr.models.net (row 8) imports lehr.worker.main (row 5)",
    ),
    "sideways": ("models/net", "from lehr.data import feed\n", "imports lehr.data.feed (row 8)"),
    "in a function": (
        "plan",
        "def f():\n    import lehr.cli.app\n",
        "plan.py:2: lehr.plan (row 9) imports lehr.cli.app",
    ),
    "relative": (
        "store/local",
        "from ..plan import make\n",
        "lehr.store.local (row 13) imports lehr.plan.make",
    ),
    "relative to the package": ("store/local", "from .. import plan\n", "imports lehr.plan (row 9)"),
    "by name": (
        "spec",
        "import importlib\nimportlib.import_module('lehr.plan')\n",
        "imports lehr.plan (row 9)",
    ),
    "upwards for types": (
        "errors",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from lehr.plan import Plan\n",
        "errors.py:3: lehr.errors (row 14) imports lehr.plan.Plan",
    ),
    "beside the type guard": (
        "models/net",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    from lehr import data\n",
        "imports lehr.data (row 8)",
    ),
    "from the package itself": ("__init__", "from lehr import errors\n", "lehr (row 15) imports lehr.errors"),
}


@pytest.mark.parametrize("planted", ROWS_BROKEN.values(), ids=list(ROWS_BROKEN))
def test_planted_import_is_found_and_named(planted: tuple[str, str, str], tmp_path: Path) -> None:
    module, text, sentence = planted
    [broken] = source.broken_rows(plant(tmp_path, {module: text}), PAGE)
    assert sentence in broken
    assert "only from rows below its own" in broken


def test_what_is_allowed_is_not_reported(tmp_path: Path) -> None:
    tree = plant(
        tmp_path,
        {
            "__main__": "from lehr.cli.app import main\n",
            "cli/app": "import lehr\nfrom lehr import __version__, errors\n",
            "models/net": "from lehr.models import block\nfrom . import block as b\nimport lehr.errors\n",
            "models/block": "import typing\nif typing.TYPE_CHECKING:\n    from lehr.data import Feed\n",
        },
    )
    assert source.broken_rows(tree, PAGE) == []


def test_room_without_a_row_is_named(tmp_path: Path) -> None:
    [broken] = source.broken_rows(plant(tmp_path, {"utils": "import os\n"}), PAGE)
    assert broken.startswith("lehr.utils stands in no row")


@pytest.mark.parametrize(
    ("module", "text", "library"),
    [
        ("worker/main", "import ray.train\n", "ray"),
        ("strategies/single", "def f():\n    import horovod.tensorflow as hvd\n", "horovod"),
        ("tracking/terminal", "from wandb import init\n", "wandb"),
        ("checkpoint/saver", "import fsspec\n", "fsspec"),
        ("plan", "from tensorflow import keras\n", "tensorflow"),
        ("cli/check", "import yaml\n", "yaml"),
    ],
)
def test_planted_library_is_found_and_its_row_named(
    module: str, text: str, library: str, tmp_path: Path
) -> None:
    [broken] = source.broken_libraries(plant(tmp_path, {module: text}), PAGE)
    assert f"lehr/{module}.py:" in broken
    assert f"`{library}`" in broken.partition("against")[2]


def test_library_in_its_room_is_not_reported(tmp_path: Path) -> None:
    tree = plant(
        tmp_path, {"launch/train": "import ray\n", "strategies/horovod": "import horovod.tensorflow\n"}
    )
    assert source.broken_libraries(tree, PAGE) == []


def test_planted_knowledge_is_found_and_its_row_named(tmp_path: Path) -> None:
    tree = plant(tmp_path, {"models/net": "from lehr.spec import kinds\n"})
    [broken] = source.broken_ignorance(tree, PAGE)
    assert (
        "models/net.py:1: lehr.models.net imports lehr.spec.kinds, against '| `models`, `dynamics`" in broken
    )
