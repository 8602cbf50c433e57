"""From a `kind:` to the code behind it, imported only when chosen.

A new model is one row: its class in `spec/models.py`. `kind: package.module:Attribute` needs none.
"""

from __future__ import annotations

import importlib
from typing import Any, get_args

from lehr.errors import UserError, letter
from lehr.spec.data import Data
from lehr.spec.models import Model
from lehr.spec.node import Node
from lehr.spec.objectives import Objective


def _rows(union: Any) -> dict[str, type[Node]]:
    """The classes of a union by the kind that selects them."""
    members = [get_args(member) for member in get_args(get_args(union)[0])]
    return {label.tag.removeprefix("kind="): row for row, label in members}


FAMILIES = {"model": _rows(Model), "data": _rows(Data), "objective": _rows(Objective)}


def load(node: Any) -> Any:
    """Import what a node's `kind` stands for: a class or a function, to be called with the node.

    Raises:
        UserError: it cannot be imported, or the module has no such attribute.
    """
    module, _, attribute = node.target.partition(":")
    where = f"{_family(node)}.kind"
    do = "install the package, or put its folder on PYTHONPATH, here and on the workers"
    if node.target != node.kind:
        do = "see `lehr doctor`"
    try:
        found = importlib.import_module(module)
    except Exception as error:
        came = f"{node.kind}: cannot import {module}: {type(error).__name__}: {error}"
        raise UserError(letter(where, came, do=do)) from error
    if not hasattr(found, attribute):
        names = [name for name in vars(found) if not name.startswith("_")]
        came = f"{node.kind}: {module} has no {attribute}"
        raise UserError(
            letter(where, came, accepted=", ".join(names[:20]), do="correct the name after the colon")
        )
    return getattr(found, attribute)


def _family(node: Any) -> str:
    """`model`, `data` or `objective`."""
    return next((name for name, rows in FAMILIES.items() if type(node) in rows.values()), type(node).__name__)
