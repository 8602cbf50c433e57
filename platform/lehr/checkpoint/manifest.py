"""What a checkpoint consists of: written last, so that its presence says that all the rest is there.

In the manifest's place may be a tombstone: a later attempt closed the folder (`sealing`), and it will never
be a checkpoint.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from lehr.checkpoint.parts import Span, sha256
from lehr.errors import CheckpointError, KeyMissing, StorageError, letter
from lehr.journal import encode, numbers
from lehr.store import Store

FORMAT = 1
ROOT = "checkpoints"
SEALED = "sealed"  # a key next to a tombstone, so that a list of keys alone tells what is no checkpoint
INCOMPLETE = "no manifest.json: it was never completed, or is being written or deleted"
READERS = 8  # files read at a time
_NAME = re.compile(r"step-(\d{8,})\.a(\d+)")


@dataclass(frozen=True)
class Part:
    """One file of a checkpoint: its name below it, its size and sum; for chains, also the slots."""

    file: str
    size_bytes: int
    sha256: str
    first_slot: int | None = None
    slots: int | None = None

    @property
    def span(self) -> Span | None:
        """The slots of a chains file; None for others."""
        if self.first_slot is None or self.slots is None:
            return None
        return Span(self.first_slot, self.slots)


@dataclass(frozen=True)
class Manifest:
    """One checkpoint.

    Args:
        step: the state is that after `step` updates.
        attempt: the life of the run that wrote it.
        spec_hash: of the job, as far as it changes results.
        workers: how many processes wrote it; another number can read it.
        parts: its files.
        metrics: last known metrics by name.
        progress: what a resumed run must know besides arrays.
        versions: of the packages that made the numbers.
        time: seconds since 1970 at which it was committed.
    """

    step: int
    attempt: int
    spec_hash: str
    workers: int
    parts: tuple[Part, ...]
    metrics: Mapping[str, float]
    progress: Mapping[str, Any]
    versions: Mapping[str, str]
    time: float

    @property
    def name(self) -> str:
        """Its folder's name: `step-00001000.a1`."""
        return name(self.step, self.attempt)

    @property
    def size_bytes(self) -> int:
        """Size of all parts."""
        return sum(part.size_bytes for part in self.parts)

    def encode(self) -> bytes:
        """The JSON file, with a sum of its own. Progress must be finite: it is read back exactly."""
        document = {"format": FORMAT, **asdict(self), "metrics": encode(dict(self.metrics))}
        return json.dumps(document | {"sha256": _sum(document)}, indent=1, allow_nan=False).encode()


def _sum(document: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON object, however it is laid out."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return sha256(text.encode())


@dataclass(frozen=True)
class Tombstone:
    """Says in the manifest's place that a folder was closed before it was complete.

    Args:
        superseded_by: the attempt that closed it.
        time: seconds since 1970 at which it did, by its own clock.
    """

    superseded_by: int
    time: float

    def encode(self) -> bytes:
        """The JSON file."""
        return json.dumps({"format": FORMAT, **asdict(self)}, allow_nan=False).encode()


@dataclass(frozen=True)
class Listed:
    """A folder below `checkpoints/`: with its manifest, or with the problem of having none to read."""

    name: str
    step: int
    attempt: int
    manifest: Manifest | None = None
    problem: str = ""
    committed: bool = True  # there is a manifest.json that is no tombstone; else it is no checkpoint
    tombstone: Tombstone | None = None


def name(step: int, attempt: int) -> str:
    """The folder's name of the checkpoint that `attempt` made at `step`."""
    return f"step-{step:08d}.a{attempt}"


def key(checkpoint: str, file: str = "manifest.json") -> str:
    """Where a file of a checkpoint is, below the run."""
    return f"{ROOT}/{checkpoint}/{file}"


def decode(data: bytes) -> Manifest:
    """What `Manifest.encode` wrote.

    Raises:
        ValueError: it is not a manifest that this lehr reads; the message says what is wrong.
    """
    document = json.loads(data)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    if document.get("format") != FORMAT:
        raise ValueError(f"not of format {FORMAT}")
    if document.pop("sha256", None) != _sum(document):
        raise ValueError("it is not what was written: its own SHA-256 differs")
    del document["format"]
    parts = tuple(Part(**part) for part in document["parts"])
    return Manifest(**document | {"parts": parts, "metrics": numbers(document["metrics"])})


def decode_tombstone(data: bytes) -> Tombstone | None:
    """What `Tombstone.encode` wrote; None when it is anything else."""
    try:
        document = json.loads(data)
        return Tombstone(int(document["superseded_by"]), float(document["time"]))
    except (ValueError, TypeError, KeyError):
        return None


def committed_names(keys: Iterable[str]) -> list[str]:
    """Names of the checkpoints that were committed, oldest first, from all keys below `checkpoints/`.

    Nothing is read: whether they are whole is not known.
    """
    present = set(keys)
    folders = {file.split("/")[1] for file in present if file.endswith("/manifest.json")}
    found = [folder for folder in folders if address(folder) and key(folder) in present]
    return sorted((folder for folder in found if key(folder, SEALED) not in present), key=_age)


def _age(folder: str) -> tuple[int, int]:
    return address(folder) or (-1, -1)


def address(folder: str) -> tuple[int, int] | None:
    """Step and attempt of a folder's name; None when it is not a checkpoint's."""
    match = _NAME.fullmatch(folder)
    return (int(match[1]), int(match[2])) if match else None


def listing(store: Store, *, strict: bool = False) -> list[Listed]:
    """All checkpoints of a run and all remains of such, newest first: by step, then by attempt.

    Args:
        store: the run's folder.
        strict: a manifest that the store does not give for now is an error, no problem of that checkpoint's.
    """
    present = set(store.list(ROOT))
    folders = {file.split("/")[1] for file in present if file.count("/") >= 2}
    places = {place: key(folder) in present for folder in folders if (place := address(folder))}
    with ThreadPoolExecutor(READERS) as pool:
        looks = [pool.submit(_look, store, *each, committed=places[each], strict=strict) for each in places]
        found = [look.result() for look in looks]
    return sorted(found, key=lambda item: (item.step, item.attempt), reverse=True)


def _look(store: Store, step: int, attempt: int, *, committed: bool, strict: bool = False) -> Listed:
    folder = name(step, attempt)
    if not committed:
        return Listed(folder, step, attempt, problem=INCOMPLETE, committed=False)
    try:
        data = store.read(key(folder))
        if tombstone := decode_tombstone(data):
            problem = f"closed by attempt {tombstone.superseded_by}: it was never completed"
            return Listed(folder, step, attempt, None, problem, committed=False, tombstone=tombstone)
        manifest = decode(data)
        if (manifest.step, manifest.attempt) != (step, attempt):
            raise ValueError(f"it is of step {manifest.step}, attempt {manifest.attempt}")
    except (StorageError, ValueError) as error:
        if strict and isinstance(error, StorageError) and not isinstance(error, KeyMissing):
            raise
        return Listed(folder, step, attempt, problem=f"manifest.json cannot be read: {error}")
    return Listed(folder, step, attempt, manifest)


def read_manifest(store: Store, step: int, attempt: int) -> Manifest:
    """The manifest of one checkpoint.

    Raises:
        CheckpointError: there is none, or it is not one.
        StorageError: the store does not give it for now.
    """
    found = _look(store, step, attempt, committed=True, strict=True)
    if found.manifest is None:
        where = f"{store.url}/{ROOT}/{found.name}"
        raise CheckpointError(letter(where, found.problem, do="look with `lehr checkpoints RUN --verify`"))
    return found.manifest
