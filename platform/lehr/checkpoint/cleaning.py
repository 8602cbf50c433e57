"""Which folders below `checkpoints/` can go, and their going."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lehr.checkpoint import retention
from lehr.checkpoint.manifest import ROOT, SEALED, Listed, address, key
from lehr.store import Store


@dataclass(frozen=True)
class Life:
    """The attempt that cleans: its number, the step resumed from (None: none), and the one just committed."""

    attempt: int
    from_step: int | None
    step: int


def doomed(found: Iterable[Listed], policy: retention.Policy, life: Life) -> list[str]:
    """Names of the checkpoints that `policy` does not keep, sorted."""
    there = [item.manifest for item in found if item.manifest]
    replaced = retention.superseded(there, attempt=life.attempt, from_step=life.from_step)
    live = [manifest for manifest in there if manifest.name not in replaced]
    kept = retention.keep(live, keep_last=policy.keep_last, keep_best=policy.keep_best)
    return sorted({manifest.name for manifest in there} - kept)


def remains(found: Iterable[Listed], life: Life, *, sealed_before: float) -> list[str]:
    """Names of folders that nobody will complete.

    Those of this attempt's earlier steps (every rank is past them), and those of earlier attempts that were
    sealed before that time, in seconds since 1970. A kill in the middle of a save or of a deletion leaves
    such. Folders with a manifest that cannot be read stay: they are evidence.
    """
    open_ones = [item for item in found if not item.committed]
    return [item.name for item in open_ones if _can_go(item, life, sealed_before)]


def _can_go(item: Listed, life: Life, sealed_before: float) -> bool:
    if item.attempt == life.attempt:
        return item.step < life.step
    return item.tombstone is not None and item.tombstone.time <= sealed_before


def empty(folders: Iterable[str], found: Iterable[Listed], life: Life) -> list[str]:
    """Names of folders without a key, on a store that has such: a writer was killed at its first file."""
    known = {item.name for item in found}
    places = ((folder, address(folder)) for folder in folders if folder not in known)
    return [folder for folder, place in places if place and (place[1], place[0]) < (life.attempt, life.step)]


def remove(store: Store, folder: str) -> None:
    """Delete a checkpoint: the manifest first, so that no part passes for the whole."""
    store.delete(key(folder))
    _delete(store, store.list(f"{ROOT}/{folder}"))


def remove_remains(store: Store, folder: str) -> None:
    """Delete what never was a checkpoint: its tombstone after the parts, so that it is closed to the end."""
    last = [key(folder), key(folder, SEALED)]
    _delete(store, [file for file in store.list(f"{ROOT}/{folder}") if file not in last])
    _delete(store, last)


def _delete(store: Store, files: Sequence[str]) -> None:
    for file in files:
        store.delete(file)
