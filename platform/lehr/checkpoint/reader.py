"""The newest checkpoint that is what was written, and its arrays."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lehr.checkpoint.manifest import ROOT, Listed, Manifest, Part, key, listing
from lehr.checkpoint.parts import Arrays, Span, State, decode, gaps, overlap, reshard, sha256
from lehr.errors import CheckpointError, KeyMissing, StorageError, UserError, letter
from lehr.store import Store

READERS = 8  # parts read at a time
CHUNK_BYTES = 16 << 20  # of a part held in memory while its sum is taken


@dataclass(frozen=True)
class Found:
    """The newest good checkpoint (None: there never was one), and what was passed over: (name, reason)."""

    manifest: Manifest | None
    skipped: tuple[tuple[str, str], ...] = ()


def newest(store: Store, *, spec_hash: str | None = None, step: int | None = None) -> Found:
    """The newest checkpoint, by step, then attempt, whose every byte is what was written.

    Args:
        store: the run's folder.
        spec_hash: of the job that wants it; None takes a checkpoint of any job.
        step: take only one of this step.

    Raises:
        CheckpointError: there are checkpoints, and none is good: nothing starts from zero silently.
        UserError: the newest good one is of another job, or there is none of `step`.
    """
    present = listing(store)
    wanted = [item for item in present if step is None or item.step == step]
    if step is not None and not any(item.committed for item in wanted):
        raise _absent(store, present, step)
    skipped: list[tuple[str, str]] = []
    for item in wanted:
        problem = _problem(store, item)
        if not problem and item.manifest:
            _check_job(store, item.manifest, spec_hash)
            return Found(item.manifest, tuple(skipped))
        skipped.append((item.name, problem))
    if any(item.committed for item in wanted):
        raise _none_good(store, skipped)
    return Found(None, tuple(skipped))


def _problem(store: Store, item: Listed) -> str:
    if item.manifest is None:
        return item.problem
    return "; ".join(verify(store, item.manifest))


def verify(store: Store, manifest: Manifest) -> list[str]:
    """What of a checkpoint is not what was written; reads every byte of it. [] when it is good."""
    with ThreadPoolExecutor(min(READERS, len(manifest.parts) or 1)) as pool:
        problems = pool.map(lambda part: _check(store, manifest, part), manifest.parts)
        return [problem for problem in problems if problem]


def sizes_agree(store: Store, manifest: Manifest) -> bool:
    """Whether every part is there in its size: cheap, nothing is read."""
    return all(store.size(key(manifest.name, part.file)) == part.size_bytes for part in manifest.parts)


def _check(store: Store, manifest: Manifest, part: Part) -> str:
    where = key(manifest.name, part.file)
    try:
        size = store.size(where)
        if size is None:
            return f"{part.file} is missing"
        if size != part.size_bytes:
            return f"{part.file} has {size:,} bytes, not the {part.size_bytes:,} written"
        if _sum(store, where, size) != part.sha256:
            return f"{part.file} is not what was written: its SHA-256 differs"
    except StorageError as error:
        return f"{part.file} cannot be read: {error}"
    return ""


def _sum(store: Store, where: str, size: int) -> str:
    found = hashlib.sha256()
    for start in range(0, size, CHUNK_BYTES):
        found.update(store.read(where, start, start + CHUNK_BYTES))
    return found.hexdigest()


def load(store: Store, manifest: Manifest, *, first_slot: int, slots: int) -> State:
    """A worker's state from a checkpoint, whatever number of workers wrote it.

    Reads the weights, the optimizer's slots, and of the chains only the files that hold some of the slots
    [first_slot, first_slot + slots); each is verified while it is read.

    Raises:
        CheckpointError: a file is missing or not what was written, or the slots are not all there.
    """
    wanted = Span(first_slot, slots)
    spans = {part.file: part.span for part in manifest.parts if part.span}
    if spans and (missing := gaps(spans.values(), wanted)):
        raise _too_few(store, manifest, missing)
    needed = [p for p in manifest.parts if p.span is None or overlap(p.span, wanted).count]
    with ThreadPoolExecutor(READERS) as pool:
        contents = pool.map(lambda part: _read(store, manifest, part), needed)
        arrays = dict(zip((part.file for part in needed), contents, strict=True))
    chains = reshard(((span, arrays[file]) for file, span in spans.items() if file in arrays), wanted)
    return State(
        weights=arrays["weights.safetensors"],
        optimizer=arrays["optimizer.safetensors"],
        chains=chains,
        first_slot=first_slot,
        slots=slots if chains else 0,
        progress=dict(manifest.progress),
    )


def _read(store: Store, manifest: Manifest, part: Part) -> Arrays:
    where = key(manifest.name, part.file)
    try:
        data = store.read(where)
        if len(data) != part.size_bytes or sha256(data) != part.sha256:
            raise ValueError("it is not what was written: its size or SHA-256 differs")
        return decode(data)
    except (KeyMissing, ValueError) as error:
        raise CheckpointError(letter(f"{store.url}/{where}", str(error), do=_ADVICE)) from None


def _check_job(store: Store, manifest: Manifest, spec_hash: str | None) -> None:
    if spec_hash is None or spec_hash == manifest.spec_hash:
        return
    raise UserError(
        letter(
            f"{store.url}/{ROOT}/{manifest.name}",
            f"it is another job's: spec_hash {manifest.spec_hash[:16]}, not this job's {spec_hash[:16]}",
            accepted="the job that the run began with; retention, retries, tracking and workers may change",
            do="undo the change (the run's spec.yaml is the old job), or train under another --run id; "
            "init_from: starts that from these weights",
        )
    )


_ADVICE = (
    "restore the files, or train under another --run id, from the start or with init_from: another run; "
    "`lehr checkpoints RUN --verify` tells what is there"
)


def _none_good(store: Store, skipped: list[tuple[str, str]]) -> CheckpointError:
    reasons = "".join(f"\n  {name}: {reason}" for name, reason in skipped)
    return CheckpointError(
        letter(f"{store.url}/{ROOT}", f"there are checkpoints, and none can be loaded{reasons}", do=_ADVICE)
    )


def _too_few(store: Store, manifest: Manifest, missing: list[Span]) -> CheckpointError:
    ranges = ", ".join(f"{span.first} to {span.first + span.count - 1}" for span in missing)
    return CheckpointError(
        letter(f"{store.url}/{ROOT}/{manifest.name}", f"it has no chains for the slots {ranges}",
               do="train with the train.global_batch that it was made with, or under another --run id")
    )  # fmt: skip


def _absent(store: Store, present: list[Listed], step: int) -> UserError:
    steps = sorted({item.step for item in present if item.committed})
    there = ", ".join(map(str, steps)) or "none at all"
    return UserError(letter(f"{store.url}/{ROOT}", f"there is no checkpoint of step {step}", accepted=there))
