"""The newest checkpoint that is what was written, and its arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from lehr.checkpoint.manifest import READERS, ROOT, Listed, Manifest, Part, key, listing
from lehr.checkpoint.parts import Arrays, Span, State, decode, gaps, overlap, reshard, sha256
from lehr.errors import CheckpointError, KeyMissing, StorageError, UserError, letter
from lehr.store import Store

CHUNK_BYTES = 16 << 20  # of a part held in memory while its sum is taken
T = TypeVar("T")


@dataclass(frozen=True)
class Found:
    """The newest good checkpoint (None: there never was one), and what was passed over: (name, reason)."""

    manifest: Manifest | None
    skipped: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Loaded:
    """As `Found`, and a worker's state from it (None where there is no checkpoint)."""

    manifest: Manifest | None
    skipped: tuple[tuple[str, str], ...]
    state: State | None


def newest(store: Store, *, spec_hash: str | None = None, step: int | None = None) -> Found:
    """The newest checkpoint, by step, then attempt, whose every byte is what was written.

    Only what is damaged is passed over. What the store does not give for now is an error: else an outage
    would send a run back to an older checkpoint.

    Args:
        store: the run's folder.
        spec_hash: of the job that wants it; None takes a checkpoint of any job.
        step: take only one of this step.

    Raises:
        CheckpointError: there are checkpoints, and none is good: nothing starts from zero silently.
        UserError: the newest good one is of another job, or there is none of `step`.
        StorageError: the store cannot tell.
    """
    found = _first_good(store, step, lambda manifest: inspect(store, manifest, manifest.parts))
    _check_job(store, found.manifest, spec_hash)
    return found


def load_newest(
    store: Store, *, first_slot: int, slots: int, spec_hash: str | None = None, step: int | None = None
) -> Loaded:
    """As `newest` and then `load`, but every byte is read once: what this worker needs is kept.

    Raises:
        CheckpointError, UserError, StorageError: as `newest` and `load`.
    """
    wanted, taken = Span(first_slot, slots), dict[str, Arrays]()

    def problems(manifest: Manifest) -> dict[str, str]:
        taken.clear()
        return _take(store, manifest, wanted, taken)

    found = _first_good(store, step, problems)
    _check_job(store, found.manifest, spec_hash)
    if found.manifest is None:
        return Loaded(None, found.skipped, None)
    _check_slots(store, found.manifest, wanted)
    return Loaded(found.manifest, found.skipped, _state(found.manifest, wanted, taken))


def _first_good(store: Store, step: int | None, problems: Callable[[Manifest], dict[str, str]]) -> Found:
    present = listing(store, strict=True)
    wanted = [item for item in present if step is None or item.step == step]
    if step is not None and not any(item.committed for item in wanted):
        raise _absent(store, present, step)
    skipped: list[tuple[str, str]] = []
    for item in wanted:
        problem = "; ".join(problems(item.manifest).values()) if item.manifest else item.problem
        if not problem:
            return Found(item.manifest, tuple(skipped))
        skipped.append((item.name, problem))
    if any(item.committed for item in wanted):
        raise _none_good(store, skipped)
    return Found(None, tuple(skipped))


def _take(store: Store, manifest: Manifest, wanted: Span, taken: dict[str, Arrays]) -> dict[str, str]:
    """Put the arrays of the parts that `wanted` needs into `taken`; what is wrong with any part, by file."""

    def look(part: Part) -> str:
        try:
            if not _is_needed(part, wanted):
                return _check(store, manifest, part)
            taken[part.file] = _read(store, manifest, part)
        except ValueError as error:
            return str(error)
        return ""

    return _by_file(manifest.parts, look)


def verify(store: Store, manifest: Manifest) -> list[str]:
    """What of a checkpoint is not what was written, or cannot be read; reads every byte. [] when good."""

    def look(part: Part) -> str:
        try:
            return _check(store, manifest, part)
        except StorageError as error:
            return f"{part.file} cannot be read: {error}"

    return list(_by_file(manifest.parts, look).values())


def inspect(store: Store, manifest: Manifest, parts: Iterable[Part]) -> dict[str, str]:
    """What of `parts` is not what was written, by file; reads every byte of them.

    Raises:
        StorageError: the store cannot tell.
    """
    return _by_file(parts, lambda part: _check(store, manifest, part))


def glance(store: Store, folder: str, parts: Iterable[Part]) -> dict[str, str]:
    """As `inspect`, of the sizes alone: cheap, nothing is read."""
    return _by_file(parts, lambda part: _differs(part, store.size(key(folder, part.file))))


def _by_file(parts: Iterable[Part], look: Callable[[Part], str]) -> dict[str, str]:
    parts = list(parts)
    return {part.file: problem for part, problem in zip(parts, _each(look, parts), strict=True) if problem}


def _each(work: Callable[[Part], T], parts: list[Part]) -> list[T]:
    with ThreadPoolExecutor(min(READERS, len(parts) or 1)) as pool:
        return list(pool.map(work, parts))


def _check(store: Store, manifest: Manifest, part: Part) -> str:
    where = key(manifest.name, part.file)
    try:
        size = store.size(where)
        return _differs(part, size) or _differs(part, size, _sum(store, where, part.size_bytes))
    except KeyMissing:
        return _differs(part, None)


def _differs(part: Part, size: int | None, digest: str | None = None) -> str:
    """What is not as it was written: a part has that size (None: it is missing), and that sum, if known."""
    if size is None:
        return f"{part.file} is missing"
    if size != part.size_bytes:
        return f"{part.file} has {size:,} bytes, not the {part.size_bytes:,} written"
    if digest not in (None, part.sha256):
        return f"{part.file} is not what was written: its SHA-256 differs"
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
        StorageError: the store does not give it for now.
    """
    wanted = Span(first_slot, slots)
    _check_slots(store, manifest, wanted)
    needed = [part for part in manifest.parts if _is_needed(part, wanted)]
    try:
        contents = _each(lambda part: _read(store, manifest, part), needed)
    except ValueError as error:
        where = f"{store.url}/{ROOT}/{manifest.name}"
        raise CheckpointError(letter(where, str(error), do=_ADVICE)) from None
    return _state(manifest, wanted, dict(zip((part.file for part in needed), contents, strict=True)))


def _is_needed(part: Part, wanted: Span) -> bool:
    return part.span is None or overlap(part.span, wanted).count > 0


def _check_slots(store: Store, manifest: Manifest, wanted: Span) -> None:
    spans = [part.span for part in manifest.parts if part.span]
    if spans and (missing := gaps(spans, wanted)):
        raise _too_few(store, manifest, missing)


def _state(manifest: Manifest, wanted: Span, arrays: dict[str, Arrays]) -> State:
    held = [(part.span, arrays[part.file]) for part in manifest.parts if part.span and part.file in arrays]
    chains = reshard(held, wanted)
    return State(
        weights=arrays["weights.safetensors"],
        optimizer=arrays["optimizer.safetensors"],
        chains=chains,
        first_slot=wanted.first,
        slots=wanted.count if chains else 0,
        progress=dict(manifest.progress),
    )


def _read(store: Store, manifest: Manifest, part: Part) -> Arrays:
    """The arrays of one part. Raises ValueError that says what is wrong with it."""
    try:
        data = store.read(key(manifest.name, part.file))
    except KeyMissing:
        raise ValueError(_differs(part, None)) from None
    if problem := _differs(part, len(data), sha256(data)):
        raise ValueError(problem)
    try:
        return decode(data)
    except ValueError as error:
        raise ValueError(f"{part.file}: {error}") from None


def _check_job(store: Store, manifest: Manifest | None, spec_hash: str | None) -> None:
    if spec_hash is None or manifest is None or spec_hash == manifest.spec_hash:
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
