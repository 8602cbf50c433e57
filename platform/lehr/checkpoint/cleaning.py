"""Which folders below `checkpoints/` can go, and their going."""

from __future__ import annotations

from dataclasses import dataclass

from lehr.checkpoint import retention
from lehr.checkpoint.manifest import ROOT, address, key, listing
from lehr.store import Store


@dataclass(frozen=True)
class Life:
    """The attempt that cleans: its number, the step resumed from (None: none), and the one just committed."""

    attempt: int
    from_step: int | None
    step: int


def doomed(store: Store, policy: retention.Policy, life: Life) -> list[str]:
    """Names of the checkpoints that `policy` does not keep, oldest first."""
    there = [item.manifest for item in listing(store) if item.manifest]
    replaced = retention.superseded(there, attempt=life.attempt, from_step=life.from_step)
    live = [manifest for manifest in there if manifest.name not in replaced]
    kept = retention.keep(live, keep_last=policy.keep_last, keep_best=policy.keep_best)
    return sorted({manifest.name for manifest in there} - kept)


def remains(store: Store, life: Life) -> list[str]:
    """Names of folders without a manifest that nobody will complete: of earlier attempts or earlier steps.

    A kill in the middle of a save or of a deletion leaves such. Folders with a manifest that cannot be read
    stay: they are evidence.
    """
    committed = {item.name for item in listing(store) if item.committed}
    places = {folder: address(folder) for folder in store.folders(ROOT) if folder not in committed}
    return [folder for folder, place in places.items() if place and _is_over(*place, life)]


def _is_over(step: int, attempt: int, life: Life) -> bool:
    return attempt < life.attempt or (attempt == life.attempt and step < life.step)


def remove(store: Store, folder: str) -> None:
    """Delete a checkpoint, or what remains of one: the manifest first, so no part passes for the whole."""
    store.delete(key(folder))
    for file in store.list(f"{ROOT}/{folder}"):
        store.delete(file)
