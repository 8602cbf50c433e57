"""A run that begins where another one was: its first checkpoint is a copy of another run's.

The copy is made by an attempt of the new run that does nothing else. So what holds for every attempt holds
for it: it seals what an earlier one left open, a later one closes what it leaves open, and of a copier that
was taken for dead and wakes up, nothing counts. The attempt that trains is the next one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lehr import journal
from lehr.checkpoint import cleaning, parts
from lehr.checkpoint.manifest import READERS, ROOT, Listed, Manifest, Part, key, listing, name
from lehr.checkpoint.reader import CHUNK_BYTES, glance, newest
from lehr.checkpoint.sealing import seal
from lehr.errors import CheckpointError, KeyMissing, StorageError, Superseded, letter
from lehr.fence import Fence
from lehr.store import Store

OPTIMIZER = "optimizer.safetensors"
RATE = "learning_rate"  # Keras keeps it among the optimizer's variables, where a restored one would win
DETOUR = "detour"  # in the progress: what a run does otherwise after it diverged (worker/divergence)
ADOPTED = "adopted"  # in the manifest's progress: {run, checkpoint} that it is a copy of


def adopt(
    source: Store, step: int | None, into: Store, *, spec_hash: str, learning_rate: float | None
) -> Manifest:
    """Make a checkpoint of one run the first one of another: weights, optimizer, chains and progress.

    Nothing is done when the other run has a checkpoint: it was copied before. May be repeated after whatever
    befell it; what it left does not count, and is cleared away.

    Args:
        source: the folder of the run that has it. It may be training, and delete what it need not keep.
        step: the newest whole checkpoint at or below it is copied; where retention has left none, the first
            one above. None: the newest.
        into: the folder of the run that begins.
        spec_hash: of the job that `into` trains.
        learning_rate: of that job; None: as in the checkpoint, which holds it.

    Returns:
        What `into` goes on from; its `step` is the one copied.

    Raises:
        CheckpointError: there is nothing whole to copy, or what `into` has cannot be loaded.
        UserError: what `into` has is another job's.
        Superseded: another attempt at `into` has begun meanwhile.
        StorageError: a store does not do it for now.
    """
    if there := newest(into, spec_hash=spec_hash).manifest:
        return there
    copy = _Copy(source, into, journal.claim_attempt(into), spec_hash, learning_rate)
    seal(into, copy.attempt)
    # An earlier copier that was taken for dead may have committed until it was sealed.
    return newest(into, spec_hash=spec_hash).manifest or copy.make(step)


@dataclass
class _Copy:
    """An attempt that copies; `passed_over` is what could not be, with the reason, by name."""

    source: Store
    into: Store
    attempt: int
    spec_hash: str
    learning_rate: float | None
    passed_over: dict[str, str] = field(default_factory=dict)
    vanished: int = -1  # the latest step that retention deleted before it was copied

    def make(self, step: int | None) -> Manifest:
        """Try one after another: each failure takes a fresh look at what there is by now."""
        while (found := self._choice(step)) is not None:
            try:
                return self._take(found)
            except ValueError as error:
                self._pass_over(found, str(error))
            except OSError as error:  # on the way through a local file
                raise StorageError(f"could not copy {found.name} of {self.source.url}: {error}") from error
        reasons = "".join(f"\n  {folder}: {reason}" for folder, reason in self.passed_over.items())
        came = f"there is no checkpoint to begin from{reasons}"
        raise CheckpointError(letter(f"{self.source.url}/{ROOT}", came, do="see `lehr checkpoints`"))

    def _choice(self, step: int | None) -> Manifest | None:
        there = listing(self.source, strict=True)
        self.passed_over |= {item.name: item.problem for item in there if item.committed and item.problem}
        return choice(there, step, without=self.passed_over, vanished=self.vanished)

    def _pass_over(self, found: Manifest, reason: str) -> None:
        self.passed_over[found.name] = reason
        if self.source.size(key(found.name)) is None:
            self.vanished = max(self.vanished, found.step)
        cleaning.remove_remains(self.into, name(found.step, self.attempt))

    def _take(self, found: Manifest) -> Manifest:
        """Copy all parts, and commit. Raises ValueError that says what is wrong with the original."""
        with ThreadPoolExecutor(READERS) as pool, tempfile.TemporaryDirectory(prefix="lehr-copy-") as folder:
            copied = list(pool.map(lambda part: self._part(found, part, Path(folder)), found.parts))
        origin = {"run": self.source.url.rstrip("/").rpartition("/")[2], "checkpoint": found.name}
        # Where the other run turned back after a divergence is its own story.
        progress = {name: value for name, value in found.progress.items() if name != DETOUR}
        manifest = dataclasses.replace(
            found, attempt=self.attempt, spec_hash=self.spec_hash, parts=tuple(copied),
            progress={**progress, ADOPTED: origin}, time=time.time(),
        )  # fmt: skip
        self._commit(manifest)
        return manifest

    def _part(self, found: Manifest, part: Part, folder: Path) -> Part:
        where = key(name(found.step, self.attempt), part.file)
        copy = folder / part.file
        try:
            _fetch(self.source, key(found.name, part.file), part, copy)
        except KeyMissing:
            raise ValueError(f"{part.file} is missing") from None
        if part.file == OPTIMIZER and self.learning_rate is not None:
            part = _set_rate(copy, part, self.learning_rate)
        self.into.put(where, copy)
        copy.unlink()
        return part

    def _commit(self, manifest: Manifest) -> None:
        """In the order that `seal` relies on."""
        if problems := glance(self.into, manifest.name, manifest.parts):
            told = "; ".join(problems.values())
            raise CheckpointError(f"{manifest.name}: the store does not hold what it took: {told}")
        where, data = key(manifest.name), manifest.encode()
        Fence(self.into, self.attempt).check(fresh=True)
        if not self.into.create(where, data) and self.into.read(where) != data:
            came = f"{manifest.name} was closed by a later attempt"
            raise Superseded(letter(self.into.url, came, do="end this process; the other goes on"))


def choice(
    there: Iterable[Listed], step: int | None, *, without: Iterable[str] = (), vanished: int = -1
) -> Manifest | None:
    """The checkpoint to copy: the newest at or below `step`, else the first above; of a step, the last one.

    Args:
        there: what the run has.
        step: as wanted; None: the newest.
        without: names of those that cannot be copied.
        vanished: steps up to it come last: what was there was deleted, because there are newer ones.
    """
    left = [item.manifest for item in there if item.manifest and item.name not in set(without)]

    def rank(manifest: Manifest) -> tuple[bool, bool, int, int]:
        above = step is not None and manifest.step > step
        return manifest.step <= vanished, above, manifest.step * (1 if above else -1), -manifest.attempt

    return min(left, key=rank, default=None)


def _fetch(store: Store, where: str, part: Part, file: Path) -> None:
    """A part as a local file. Raises ValueError when it is not what was written."""
    found, size = hashlib.sha256(), 0
    with open(file, "wb") as out:
        for start in range(0, part.size_bytes + 1, CHUNK_BYTES):  # one byte more: it may be too long
            data = store.read(where, start, start + CHUNK_BYTES)
            found.update(data)
            size += out.write(data)
    if (size, found.hexdigest()) != (part.size_bytes, part.sha256):
        raise ValueError(f"{part.file} is not what was written: its size or SHA-256 differs")


def _set_rate(file: Path, part: Part, rate: float) -> Part:
    """The optimizer's state with another learning rate; every other number stays as it is."""
    arrays = parts.decode(file.read_bytes())
    for slot, array in arrays.items():
        if slot.rpartition("/")[2] == RATE:
            arrays[slot] = np.full_like(array, rate)
    size, digest = parts.write(file, arrays)
    return dataclasses.replace(part, size_bytes=size, sha256=digest)
