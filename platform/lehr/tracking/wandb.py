"""Weights & Biases, through its own client: one W&B run for a run of ours, whatever its number of attempts.

A journal entry of metrics is one row of W&B's history, with the same names and values and with `step`, which
is the x axis of every chart. Offline files are kept with the run: `wandb sync` sends them later. When W&B
cannot be reached, an attempt is recorded offline.
"""

from __future__ import annotations

import functools
import hashlib
import io
import netrc
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from lehr import __version__
from lehr.errors import UserError, letter
from lehr.journal import Entry
from lehr.plan import Plan
from lehr.spec import secrets
from lehr.store import Store

FOLDER = "wandb"
INIT_S, FINISH_S = 20.0, 20.0  # together less than the end of a run waits
_HOST = "https://api.wandb.ai"
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")  # W&B refuses : ; , # ? / ' in ids; dots make odd file names
_LONGEST = 64
_GOOD = ("completed", "stopped")


def identity(run_id: str) -> str:
    """`run_id` as W&B takes it: at most 64 letters, digits, - and _; ids that differ stay so."""
    safe = _UNSAFE.sub("-", run_id)
    if safe == run_id and len(run_id) <= _LONGEST:
        return run_id
    return f"{safe[: _LONGEST - 9]}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"


def key(node: Any) -> str | None:
    """The API key that the spec's node, the environment or ~/.netrc gives; never kept or shown."""
    if node.api_key is not None:
        return secrets.resolve(node.api_key)
    if found := os.environ.get("WANDB_API_KEY"):
        return found
    try:
        entry = netrc.netrc(os.environ.get("NETRC")).authenticators(
            urlparse(os.environ.get("WANDB_BASE_URL", _HOST)).hostname or ""
        )
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
        tell: takes what the user should know, in words.
    """

    def __init__(self, run: Store, tell: Callable[[str], object] = print) -> None:
        self._store, self._tell = run, tell
        self._run: Any = None
        self._exit_code = 1  # until the journal says that it ended well
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def start(self, plan: Plan, attempt: int) -> None:
        """Begin, or go on with, the W&B run; offline when W&B cannot be reached."""
        import wandb

        os.environ.setdefault("WANDB_SILENT", "true")  # its login speaks before it has read its settings
        begin = functools.partial(_begin, plan, attempt, str(self._folder()))
        try:
            how, secret = _manner(plan.spec.tracking.wandb)
            self._run = begin(how, secret)
        except Exception as error:  # UserError: no key; W&B's own: no network, a wrong key, no permission
            self._tell_why(error)
            wandb.teardown()  # or its service goes on trying, and holds that the run's id is in use
            self._run = begin("offline", None)
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def _tell_why(self, error: Exception) -> None:
        reason = " ".join(str(error).split())
        files = f"{self._store.url.rstrip('/')}/{FOLDER}"
        self._tell(f"W&B is not online: {reason}; recorded in {files}: send it later with wandb sync")

    def record(self, entry: Entry) -> None:
        """A metrics entry becomes a row; a start tells the configuration what only the worker knows."""
        kind = entry["type"]
        if kind == "metrics":
            self._run.log({"step": entry["step"], **entry["values"]})
        elif kind == "start":
            told = {name: entry[name] for name in ("from_step", "versions") if name in entry}
            self._run.config.update(told, allow_val_change=True)
        elif kind == "end":
            self._exit_code = 0 if entry["outcome"] in _GOOD else 1

    def image(self, name: str, step: int, png: bytes) -> None:
        """A row of its own with the picture."""
        import PIL.Image
        import wandb

        self._run.log({"step": step, name: wandb.Image(PIL.Image.open(io.BytesIO(png)))})

    def close(self) -> None:
        """Send or write what is left, and keep the files with the run."""
        import wandb

        if self._run is not None:
            self._run.finish(exit_code=self._exit_code)
            wandb.teardown()  # waits for its service to end: until then the file may be empty on disk
        if self._temporary is not None:
            with self._temporary as folder:
                for file in sorted(Path(folder).rglob("*")):
                    if file.is_file() and not file.is_symlink():
                        self._store.write(file.relative_to(folder).as_posix(), file.read_bytes())

    def _folder(self) -> Path:
        """The folder in which W&B makes its own, `wandb`."""
        local = self._store.local_path(FOLDER)
        if local is not None:
            local.mkdir(parents=True, exist_ok=True)
            return local.parent
        self._temporary = tempfile.TemporaryDirectory(prefix="lehr-wandb-")
        return Path(self._temporary.name)


def _manner(node: Any) -> tuple[str, str | None]:
    """The mode, and the key if it needs one.

    Raises:
        UserError: it needs one and there is none. W&B itself would ask for one at a terminal.
    """
    how = mode(node)
    if how != "online":
        return how, None
    if (secret := key(node)) is None:
        accepted = "WANDB_API_KEY, tracking.wandb.api_key, or ~/.netrc (wandb login)"
        raise UserError(letter("tracking.wandb.mode: online", "there is no API key", accepted=accepted))
    return how, secret


def _begin(plan: Plan, attempt: int, folder: str, how: Any, secret: str | None) -> Any:
    """W&B's run, begun in the mode `how`."""
    import wandb

    node: Any = plan.spec.tracking.wandb
    settings = wandb.Settings(
        silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True,
        x_disable_machine_info=True, x_save_requirements=False, init_timeout=INIT_S, finish_timeout=FINISH_S,
        x_sync_dir_suffix=f"a{attempt}", api_key=secret,
    )  # fmt: skip
    return wandb.init(
        project=node.project, entity=node.entity, group=node.group or plan.spec.name, name=plan.run_id,
        id=identity(plan.run_id), resume="allow", mode=how, tags=list(node.tags) or None,
        notes=node.notes, config=config(plan) | {"attempt": attempt}, dir=folder, settings=settings,
        reinit="create_new",
    )  # fmt: skip
