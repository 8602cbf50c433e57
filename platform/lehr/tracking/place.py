"""`tracking/wandb.json`: which W&B run a run of ours is, on whatever machine and however often it is sent.

The id has a random end: runs of the same name in two storages may go to one project. It stays with the run's
folder when that moves. Runs of before there was this file keep the id that they had.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from lehr import __version__
from lehr.errors import KeyMissing
from lehr.store import Store

KEY = "tracking/wandb.json"
BEFORE = "wandb"  # the folder of W&B's own files, which runs of before have and this file not
GIT_S = 5.0
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")  # W&B refuses : ; , # ? / ' in ids; dots make odd file names
_LONGEST = 64
_RANDOM = 4  # bytes; two runs of one name in one project meet once in 4 billion


@dataclass(frozen=True)
class Place:
    """Where in W&B a run is.

    Args:
        id: W&B's id of the run.
        project: its project.
        entity: the team or user; None until W&B has said who the key's owner is.
        code: the version of the code that began it.
    """

    id: str
    project: str
    entity: str | None = None
    code: str = ""


def identity(run_id: str, *, longest: int = _LONGEST) -> str:
    """`run_id` as W&B takes it: at most 64 letters, digits, - and _; ids that differ stay so."""
    safe = _UNSAFE.sub("-", run_id)
    if safe == run_id and len(run_id) <= longest:
        return run_id
    return f"{safe[: longest - 9]}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"


def find(run: Store) -> Place | None:
    """The place that the run's folder names, if it does.

    Raises:
        StorageError: the store does not answer.
    """
    try:
        return Place(**json.loads(run.read(KEY)))
    except (KeyMissing, ValueError, TypeError):
        return None


def settle(run: Store, run_id: str, *, project: str, entity: str | None, code: Callable[[], str]) -> Place:
    """The place of a run, made if there is none. Of several who make one, all get the same id.

    Args:
        run: the run's folder.
        run_id: its id.
        project: where it is to be; may change between attempts, the id stays.
        entity: the same; None for the one known, else the key's owner.
        code: says what code begins it; asked only if this is the beginning.

    Raises:
        StorageError: the store does not answer.
    """
    found = find(run)
    if found is None:
        made = Place(_new_id(run, run_id), project, entity, code())
        if not run.create(KEY, _document(made)):
            found = find(run)
        found = found or made
    return replace(found, project=project, entity=entity or _owner(found, project))


def keep(run: Store, place: Place) -> None:
    """Remember what W&B said of the place.

    Raises:
        StorageError: the store does not do it.
    """
    if find(run) != place:
        run.write(KEY, _document(place))


def _owner(found: Place, project: str) -> str | None:
    return found.entity if found.project == project else None


def _document(place: Place) -> bytes:
    return json.dumps(asdict(place), indent=1).encode()


def _new_id(run: Store, run_id: str) -> str:
    if run.folders(BEFORE):
        return identity(run_id)
    end = secrets.token_hex(_RANDOM)
    return f"{identity(run_id, longest=_LONGEST - len(end) - 1)}-{end}"


def code_version() -> str:
    """lehr's version and, where the working folder is in a git work tree, its commit. Takes at most 10 s."""
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return f"lehr {__version__}"
    changed = _git("status", "--porcelain", "--untracked-files=no")
    state = "" if changed == "" else " (changed)" if changed else " (changes unknown)"
    return f"lehr {__version__}, git {commit}{state}"


def _git(*arguments: str) -> str | None:
    """What git says; None when it does not."""
    environment: dict[str, Any] = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=GIT_S, env=environment, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
