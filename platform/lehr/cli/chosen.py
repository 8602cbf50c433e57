"""What commands that use a trained model begin with: its plan, one of its checkpoints, and quiet."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from lehr.checkpoint import Manifest
    from lehr.cli.stored import Run
    from lehr.plan import Plan
    from lehr.store import Store


def step(text: str) -> int | None:
    """The step that `--step` names; None for the latest.

    Raises:
        UserError: it names none.
    """
    from lehr.errors import UserError, letter

    if text == "latest":
        return None
    if not text.isdecimal():
        raise UserError(letter("--step", f"{text!r} is not a step", accepted="a whole number, or latest"))
    return int(text)


def plan(run: Run) -> Plan:
    """The run's plan.

    Raises:
        UserError: its folder does not tell.
    """
    from lehr import plan as plans
    from lehr.errors import UserError, letter

    if not run.plan:
        came = f"{run.folder.url}/plan.json is missing or cannot be read, so the model is not known"
        raise UserError(letter("RUN", came, do="restore the file, or start the same job and --run id again"))
    return plans.restore(run.plan)


def checkpoint(run: Run, wanted: int | None) -> Manifest:
    """The newest good checkpoint, or that of a step; what was passed over is said.

    Raises:
        UserError: there is none.
    """
    from lehr import checkpoint as checkpoints
    from lehr.errors import UserError, letter

    found = checkpoints.newest(run.folder, step=wanted)
    for name, reason in found.skipped:
        typer.echo(f"skipped {name}: {reason}", err=True)
    if found.manifest is None:
        came = f"run {run.name} has no checkpoint yet"
        raise UserError(letter("RUN", came, do=f"wait for its first: lehr checkpoints {run.name}"))
    return found.manifest


def named(folder: Store, manifest: Manifest) -> dict[str, str]:
    """A checkpoint's name and the sum of its manifest, which has the sums of all its files."""
    from lehr.checkpoint.manifest import key

    sha256 = hashlib.sha256(folder.read(key(manifest.name))).hexdigest()
    return {"name": manifest.name, "manifest_sha256": sha256}


@contextmanager
def quiet(folder: Store, log: str) -> Iterator[None]:
    """What TensorFlow says goes to a log; the user's own modules are found as workers find them."""
    from lehr import logs

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    with logs.into(folder, log):
        yield
