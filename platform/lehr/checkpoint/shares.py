"""How ranks tell each other what each contributes to a checkpoint.

Ranks meet in the store alone: each writes its files and then `parts/rank-0000.json`, which lists them, or
says why there are none; rank 0 looks until it has all of them.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lehr.checkpoint.manifest import ROOT, Part, key
from lehr.errors import CheckpointError, KeyMissing
from lehr.store import Store

LONGEST_PAUSE_S = 1.0  # between two looks


@dataclass(frozen=True)
class Patience:
    """How long to wait for the other ranks.

    Args:
        timeout_s: after which it is over; time during which the store itself fails is not counted.
        now: seconds, from any moment on.
        sleep: waits for so many seconds.
    """

    timeout_s: float = 1800.0
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def describe(store: Store, folder: str, *, rank: int, parts: Sequence[Part]) -> None:
    """Tell rank 0 that a rank's files are there."""
    _say(store, folder, rank, {"parts": [asdict(part) for part in parts]})


def excuse(store: Store, folder: str, *, rank: int, reason: str) -> None:
    """Tell rank 0 that it waits in vain."""
    _say(store, folder, rank, {"failed": reason})


class Gathering:
    """Rank 0 collects what the others say; one that was broken off goes on where it was."""

    def __init__(self, folder: str, ranks: Iterable[int]) -> None:
        self._folder = folder
        self._missing = set(ranks)
        self._found: dict[int, list[Part]] = {}
        self._waited_s = 0.0

    def finish(self, store: Store, patience: Patience, check: Callable[[], None]) -> list[Part]:
        """The files of all ranks, by rank, as soon as all are there.

        Args:
            store: where they come to be.
            patience: for how long.
            check: asked before each look; raises to break off.

        Raises:
            CheckpointError: a rank failed, or said nothing in time.
            StorageError: the store does not tell; call again.
        """
        looked, pause_s = patience.now(), 0.01
        while self._look(store, check):
            now = patience.now()
            self._waited_s += now - looked
            looked = now
            if self._waited_s >= patience.timeout_s:
                late = ", ".join(map(str, sorted(self._missing)))
                raise CheckpointError(
                    f"{self._folder}: no parts from rank {late} in {patience.timeout_s:g} s"
                )
            patience.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        return [part for rank in sorted(self._found) for part in self._found[rank]]

    def _look(self, store: Store, check: Callable[[], None]) -> bool:
        """Whether some are still missing."""
        check()
        if self._missing:
            present = set(store.list(f"{ROOT}/{self._folder}/parts"))
            for rank in [rank for rank in self._missing if _descriptor(self._folder, rank) in present]:
                with contextlib.suppress(KeyMissing):  # a store may list what it does not give yet
                    self._found[rank] = _listed(store, self._folder, rank)
                    self._missing.discard(rank)
        return bool(self._missing)


def _listed(store: Store, folder: str, rank: int) -> list[Part]:
    said = json.loads(store.read(_descriptor(folder, rank)))
    if "failed" in said:
        raise CheckpointError(f"{folder}: rank {rank} could not write its parts: {said['failed']}")
    return [Part(**part) for part in said["parts"]]


def _say(store: Store, folder: str, rank: int, said: Mapping[str, Any]) -> None:
    store.write(_descriptor(folder, rank), json.dumps({"rank": rank, **said}).encode())


def _descriptor(folder: str, rank: int) -> str:
    return key(folder, f"parts/rank-{rank:04d}.json")
