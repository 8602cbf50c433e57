"""What each rank contributes to a checkpoint, and how rank 0 learns that all of it is there.

Ranks meet in the store alone: each writes its files and then `parts/rank-0000.json`, which lists them, or
says why there are none; rank 0 looks until it has all of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lehr.checkpoint.manifest import ROOT, Part, key
from lehr.checkpoint.parts import State, encode, files, sha256
from lehr.errors import CheckpointError
from lehr.store import Store

LONGEST_PAUSE_S = 1.0  # between two looks


@dataclass(frozen=True)
class Patience:
    """How long to wait for the other ranks.

    Args:
        timeout_s: after which it is over.
        now: seconds, from any moment on.
        sleep: waits for so many seconds.
    """

    timeout_s: float = 300.0
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def write(store: Store, folder: str, state: State, *, rank: int, workers: int) -> list[Part]:
    """Write a rank's files, and then the list of them; returns that list."""
    parts = []
    for file, arrays in files(state, rank=rank, workers=workers).items():
        data = encode(arrays)
        store.write(key(folder, file), data)
        span = (state.first_slot, state.slots) if arrays is state.chains else (None, None)
        parts.append(Part(file, len(data), sha256(data), *span))
    _say(store, folder, rank, {"parts": [asdict(part) for part in parts]})
    return parts


def excuse(store: Store, folder: str, *, rank: int, reason: str) -> None:
    """Tell rank 0 that it waits in vain."""
    _say(store, folder, rank, {"failed": reason})


def gather(store: Store, folder: str, ranks: Iterable[int], patience: Patience) -> list[Part]:
    """The files of all `ranks`, by rank, as soon as all are there.

    Raises:
        CheckpointError: a rank failed, or said nothing in time.
    """
    missing, found = set(ranks), dict[int, list[Part]]()
    until, pause_s = patience.now() + patience.timeout_s, 0.01
    while missing:
        present = set(store.list(f"{ROOT}/{folder}/parts"))
        there = {rank for rank in missing if _descriptor(folder, rank) in present}
        found |= {rank: _listed(store, folder, rank) for rank in there}
        missing -= there
        if missing and patience.now() >= until:
            late = ", ".join(map(str, sorted(missing)))
            raise CheckpointError(f"{folder}: no parts from rank {late} in {patience.timeout_s:g} s")
        if missing:
            patience.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
    return [part for rank in sorted(found) for part in found[rank]]


def _listed(store: Store, folder: str, rank: int) -> list[Part]:
    said = json.loads(store.read(_descriptor(folder, rank)))
    if "failed" in said:
        raise CheckpointError(f"{folder}: rank {rank} could not write its parts: {said['failed']}")
    return [Part(**part) for part in said["parts"]]


def _say(store: Store, folder: str, rank: int, said: Mapping[str, Any]) -> None:
    store.write(_descriptor(folder, rank), json.dumps({"rank": rank, **said}).encode())


def _descriptor(folder: str, rank: int) -> str:
    return key(folder, f"parts/rank-{rank:04d}.json")
