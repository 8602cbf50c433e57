"""Closing what earlier attempts left open, so that nobody can complete it behind a later one's back."""

from __future__ import annotations

import time

from lehr.checkpoint.manifest import ROOT, SEALED, Tombstone, address, decode_tombstone, key
from lehr.store import Store


def seal(store: Store, attempt: int) -> list[str]:
    """Close every folder of an attempt before `attempt` that has no manifest; their names.

    Rank 0 of a new attempt calls this between `journal.claim_attempt` and its look for the newest checkpoint.
    Afterwards, what no earlier attempt has committed, none ever will, where `create` is conditional and lists
    are complete (a folder, S3, Ceph). Proof: an earlier attempt commits in this order: (i) all its files are
    in the folder, (ii) it asks anew whether a later attempt has claimed, (iii) it creates the manifest. If
    (ii) came after our claim, it learned that it is over. If before, then (i) came before our list: we saw
    the folder, and of its create and ours one came first. Either ours, and it creates nothing; or its own,
    and the checkpoint is committed before we look for the newest.

    That holds until the tombstone is swept: a process frozen for longer than the grace time between (ii)
    and (iii) can still leave a manifest, of parts that are gone: a checkpoint that does not verify.
    """
    present = set(store.list(ROOT))
    sealed = []
    for folder in _earlier(present, attempt):
        if key(folder) not in present:
            sealed += [folder] if _close(store, folder, attempt) else []
        elif key(folder, SEALED) in present:
            _is_closed(store, folder)
    return sealed


def _earlier(present: set[str], attempt: int) -> list[str]:
    folders = {file.split("/")[1] for file in present if file.count("/") >= 2}
    return sorted(folder for folder in folders if (place := address(folder)) and place[1] < attempt)


def _close(store: Store, folder: str, attempt: int) -> bool:
    # The mark comes first: a tombstone without it would pass for a checkpoint where only keys are looked at.
    store.write(key(folder, SEALED), b"\n")
    store.create(key(folder), Tombstone(attempt, time.time()).encode())
    return _is_closed(store, folder)


def _is_closed(store: Store, folder: str) -> bool:
    """Whether a tombstone lies there; a checkpoint that was committed after all loses its mark."""
    if decode_tombstone(store.read(key(folder))):
        return True
    store.delete(key(folder, SEALED))
    return False
