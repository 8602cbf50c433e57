"""Weights & Biases, through its own client: one W&B run for a run of ours, whatever its number of attempts.

A journal entry of metrics is one row of W&B's history, with the same names and values and with `step`, which
is the x axis of every chart. Offline files are kept with the run: `wandb sync` sends them later.
"""

from __future__ import annotations

import io
import netrc
import os
import re
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from lehr import __version__
from lehr.journal import Entry
from lehr.plan import Plan
from lehr.spec import secrets
from lehr.store import Store

FOLDER = "wandb"
INIT_S, FINISH_S = 60.0, 20.0
_HOST = "https://api.wandb.ai"
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")  # W&B refuses / \ # ? % : in ids; dots make odd file names


def identity(run_id: str) -> str:
    """`run_id` as W&B takes it: at most 64 letters, digits, hyphens and underscores."""
    return _UNSAFE.sub("-", run_id)[:64]


def key(node: Any) -> str | None:
    """The API key that the spec's node, the environment or ~/.netrc gives; never kept or shown."""
    if node.api_key is not None:
        return secrets.resolve(node.api_key)
    if found := os.environ.get("WANDB_API_KEY"):
        return found
    try:
        entry = netrc.netrc().authenticators(urlparse(os.environ.get("WANDB_BASE_URL", _HOST)).hostname or "")
    except (OSError, netrc.NetrcParseError):
        return None
    return entry[2] if entry else None


def mode(node: Any) -> str:
    """`auto` is what WANDB_MODE says, else online when there is a key, else offline."""
    if node.mode != "auto":
        return str(node.mode)
    return os.environ.get("WANDB_MODE") or ("online" if key(node) else "offline")


def config(plan: Plan) -> dict[str, Any]:
    """What W&B shows as the run's configuration: the spec with every default, the plan's numbers, versions.

    Options of the store are left out, and where the API key is kept.
    """
    spec = plan.spec.document()
    spec.pop("storage_options", None)
    spec["tracking"]["wandb"].pop("api_key", None)
    numbers = {name: value for name, value in plan.document().items() if isinstance(value, int | float)}
    return spec | {"plan": numbers, "spec_hash": plan.spec_hash, "lehr_version": __version__}


class Wandb:
    """A tracker that writes to W&B. Not for the training thread: `Background` calls it.

    Args:
        run: the run's folder. Where its keys are files, W&B's files are there too; else they are made in a
            temporary folder and copied there at the end.
    """

    def __init__(self, run: Store) -> None:
        self._store = run
        self._run: Any = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def start(self, plan: Plan, attempt: int) -> None:
        """Begin, or go on with, the W&B run."""
        import wandb

        node = plan.spec.tracking.wandb
        how = mode(node)
        settings = wandb.Settings(
            silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True,
            x_disable_machine_info=True, x_save_requirements=False, init_timeout=INIT_S, finish_timeout=FINISH_S,
            **({"api_key": key(node)} if how == "online" else {}),
        )  # fmt: skip
        self._run = wandb.init(
            project=node.project, entity=node.entity, group=node.group or plan.spec.name, name=plan.run_id,
            id=identity(plan.run_id), resume="allow", mode=how, tags=list(node.tags) or None, notes=node.notes,
            config=config(plan) | {"attempt": attempt}, dir=str(self._folder()), settings=settings,
            reinit="create_new",
        )  # fmt: skip
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def record(self, entry: Entry) -> None:
        """A metrics entry becomes a row; others are the journal's alone."""
        if entry["type"] == "metrics":
            self._run.log({"step": entry["step"], **entry["values"]})

    def image(self, name: str, step: int, png: bytes) -> None:
        """A row of its own with the picture."""
        import PIL.Image
        import wandb

        self._run.log({"step": step, name: wandb.Image(PIL.Image.open(io.BytesIO(png)))})

    def close(self) -> None:
        """Send or write what is left, and keep the files with the run."""
        if self._run is not None:
            self._run.finish()
        if self._temporary is not None:
            folder = Path(self._temporary.name)
            for file in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
                self._store.write(file.relative_to(folder).as_posix(), file.read_bytes())
            self._temporary.cleanup()

    def _folder(self) -> Path:
        """The folder in which W&B makes its own, `wandb`."""
        local = self._store.local_path(FOLDER)
        if local is not None:
            local.mkdir(parents=True, exist_ok=True)
            return local.parent
        self._temporary = tempfile.TemporaryDirectory(prefix="lehr-wandb-")
        return Path(self._temporary.name)
