"""A run that begins with a copy of another run's checkpoint, whatever happens to either meanwhile."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jobs
from fakes import FailingStore, MemoryStore
from lehr import journal, plan, store
from lehr.checkpoint import (
    Manifest,
    Saver,
    State,
    committed_names,
    listing,
    load,
    newest,
    read_manifest,
    seal,
    verify,
)
from lehr.checkpoint.cleaning import remove
from lehr.checkpoint.copying import ADOPTED, adopt, choice
from lehr.checkpoint.manifest import Listed, key, name
from lehr.errors import CheckpointError, StorageError, Superseded, UserError
from lehr.store import Store
from ranks import SLOTS, SPEC_HASH, Ranks, same, state

TESTS = Path(__file__).parents[1]
OTHER = "7" * 64  # the hash of the job that begins with the copy


@pytest.fixture
def origin() -> MemoryStore:
    """A run of two workers with checkpoints of steps 10, 20 and 30."""
    place = MemoryStore("fake://store/origin")
    save(place, 10, 20, 30)
    return place


def save(place: Store, *steps: int, attempt: int = 1, keep: int = 9) -> None:
    ranks = Ranks(place, attempt=attempt, policy=Keep(keep))
    ranks.save(*steps)
    ranks.close()


@dataclasses.dataclass(frozen=True)
class Keep:
    keep_last: int
    keep_best: Any = None


def copied(source: Store, into: Store, step: int | None = None, rate: float | None = None) -> Manifest:
    return adopt(source, step, into, spec_hash=OTHER, learning_rate=rate)


def is_copy(into: Store, found: Manifest) -> bool:
    """Whether the run has that checkpoint, and it holds what every state of its step holds."""
    good = newest(into, spec_hash=OTHER).manifest
    if good != found or verify(into, found):
        return False
    got, wanted = load(into, found, first_slot=0, slots=SLOTS), state(found.step)
    arrays = [(got.weights, wanted.weights), (got.optimizer, wanted.optimizer), (got.chains, wanted.chains)]
    return all(same(one, other) for one, other in arrays)


# --- what is copied ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_the_copy_is_the_same_bytes_under_another_job(origin: MemoryStore, kind: str, tmp_path: Path) -> None:
    into = MemoryStore("fake://store/copy") if kind == "memory" else store.connect(str(tmp_path))
    found = copied(origin, into)
    old = read_manifest(origin, 30, 1)
    assert is_copy(into, found)
    assert (found.step, found.spec_hash, found.workers) == (30, OTHER, 2)
    assert (found.parts, found.metrics, found.versions) == (old.parts, old.metrics, old.versions)
    assert found.progress == {**old.progress, ADOPTED: {"run": "origin", "checkpoint": old.name}}


@pytest.mark.parametrize(("step", "taken"), [(None, 30), (99, 30), (30, 30), (29, 20), (20, 20), (10, 10)])
def test_the_newest_at_or_below_the_step_is_taken(origin: Store, step: int | None, taken: int) -> None:
    assert copied(origin, MemoryStore(), step).step == taken


def test_where_retention_left_none_the_first_above_is_taken(origin: Store) -> None:
    assert copied(origin, MemoryStore(), 5).step == 10


def test_of_one_step_the_last_attempts_is_taken(origin: Store) -> None:
    assert journal.claim_attempt(origin) == 1
    save(origin, 30, 40, attempt=2)
    assert copied(origin, MemoryStore(), 35).progress[ADOPTED]["checkpoint"] == name(30, 2)


def test_large_parts_come_in_pieces(origin: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lehr.checkpoint.copying.CHUNK_BYTES", 7)
    into = MemoryStore()
    assert is_copy(into, copied(origin, into))


# --- what stands in the way ----------------------------------------------------------------------------


def spoil(place: MemoryStore, step: int, file: str, change: Callable[[bytes], bytes]) -> None:
    where = key(name(step, 1), file)
    place.objects[where] = change(place.objects[where])


@pytest.mark.parametrize(
    "change",
    [lambda data: data[:-1], lambda data: data + b"\0", lambda data: data[:-1] + bytes([data[-1] ^ 1])],
    ids=["too short", "too long", "changed"],
)
@pytest.mark.parametrize("file", ["weights.safetensors", "optimizer.safetensors", "manifest.json"])
def test_what_is_damaged_is_passed_over(origin: MemoryStore, file: str, change: Any) -> None:
    spoil(origin, 30, file, change)
    into = MemoryStore()
    found = copied(origin, into)
    assert found.step == 20
    assert is_copy(into, found)
    assert into.folders("checkpoints") == [found.name], "nothing is left of the other"


def test_nothing_whole_is_an_error_that_names_what_was_passed_over(origin: MemoryStore) -> None:
    for step in (10, 20, 30):
        spoil(origin, step, "weights.safetensors", lambda data: data[:-1])
    with pytest.raises(CheckpointError, match=r"there is no checkpoint to begin from") as raised:
        copied(origin, MemoryStore())
    assert all(name(step, 1) in str(raised.value) for step in (10, 20, 30))
    with pytest.raises(CheckpointError, match="no checkpoint to begin from"):
        copied(MemoryStore(), MemoryStore())


class Retention(MemoryStore):
    """A run that goes on while it is read: at the n-th read of a part, it has saved and deleted."""

    def __init__(self, place: MemoryStore, at: int) -> None:
        super().__init__(place.url)
        self.objects, self._left = place.objects, at

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        if key.endswith(".safetensors"):
            self._left -= 1
            if self._left == 0:
                inner = MemoryStore()
                inner.objects = self.objects
                save(inner, 40)
                for item in listing(inner):
                    if item.step < 40:
                        remove(inner, item.name)
        return super().read(key, start, end)


@pytest.mark.parametrize("at", [1, 2, 3, 4])
@pytest.mark.parametrize("step", [None, 20])
def test_what_retention_deletes_meanwhile_is_left_for_a_newer_one(
    origin: MemoryStore, at: int, step: int | None
) -> None:
    into = MemoryStore()
    found = copied(Retention(origin, at), into, step)
    assert is_copy(into, found)
    assert found.step in (40, step or 30), "the last part may have come before"
    assert into.folders("checkpoints") == [found.name]


def test_a_newer_one_comes_before_what_was_kept_for_best() -> None:
    there = [Listed(name(s, 1), s, 1, manifest(s)) for s in (10, 30, 40)]
    assert choice(there, 20) == manifest(10)
    assert choice(there, 20, vanished=20) == manifest(30)
    assert choice(there, 30, vanished=20) == manifest(30)
    assert choice(there, 20, without=[name(30, 1)], vanished=20) == manifest(40)
    assert choice(there, 5, without=[name(s, 1) for s in (30, 40)], vanished=99) == manifest(10)
    assert choice([], 5) is None


def manifest(step: int) -> Manifest:
    return Manifest(step, 1, SPEC_HASH, 1, (), {}, {}, {}, 0.0)


# --- once, however often -------------------------------------------------------------------------------


def test_done_twice_it_does_nothing(origin: Store) -> None:
    into = MemoryStore()
    first = copied(origin, into)
    before = dict(into.objects)
    save(origin, 40)
    assert copied(origin, into) == first
    assert into.objects == before


def test_a_run_that_has_gone_on_stays_as_it_is(origin: Store) -> None:
    into = MemoryStore()
    first = copied(origin, into, 10)
    assert first.attempt == 1
    assert journal.claim_attempt(into) == 2
    saver = own(into, 2)
    saver.resumed_from(first)
    saver.save(12, state(12), {})
    saver.wait()
    saver.close()
    assert copied(origin, into, 30).step == 12


def own(into: Store, attempt: int, keep: int = 9) -> Saver:
    return Saver(into, rank=0, workers=1, attempt=attempt, spec_hash=OTHER, keep=Keep(keep))


def test_another_jobs_run_is_refused(origin: Store) -> None:
    into = MemoryStore()
    save(into, 5)
    with pytest.raises(UserError, match="another job's"):
        copied(origin, into)


@pytest.mark.parametrize("after", [True, False], ids=["answer lost", "refused"])
def test_broken_off_at_any_change_it_counts_for_nothing_and_is_done_again(
    origin: MemoryStore, after: bool
) -> None:
    whole = FailingStore(MemoryStore(), lambda number: False)
    copied(origin, whole)
    assert len(whole.changes) == 6, "a claim, four parts, a manifest"
    for n in range(1, 7):
        into = MemoryStore()
        with pytest.raises(StorageError):
            copied(origin, FailingStore(into, lambda number, n=n: number >= n, after=after))  # type: ignore[misc]
        done = after and n == 6
        assert bool(newest(into).manifest) == bool(committed_names(into.list("checkpoints"))) == done
        found = copied(origin, into)
        assert is_copy(into, found)
        assert found.attempt == (1 if done or (n == 1 and not after) else 2)


def test_a_copier_that_wakes_up_after_another_one_began_changes_nothing(origin: MemoryStore) -> None:
    class Frozen(MemoryStore):
        """Another driver takes the run over right before the manifest."""

        def create(self, key: str, data: bytes) -> bool:
            if key.endswith("manifest.json"):
                inner = MemoryStore()
                inner.objects = self.objects
                seal(inner, journal.claim_attempt(inner))
            return super().create(key, data)

    into = Frozen()
    with pytest.raises(Superseded):
        copied(origin, into)
    assert newest(into).manifest is None
    into2 = MemoryStore()
    into2.objects = into.objects
    assert copied(origin, into2).attempt == 3


def test_a_later_attempt_that_has_only_begun_is_asked_for_before_the_commit(origin: MemoryStore) -> None:
    class Frozen(MemoryStore):
        def put(self, key: str, file: Path) -> None:
            super().put(key, file)
            if journal.latest_attempt(self) == 1:
                journal.claim_attempt(self)

    into = Frozen()
    with pytest.raises(Superseded, match="attempt 1 is over"):
        copied(origin, into)
    assert committed_names(into.list("checkpoints")) == []


def test_a_local_disk_that_fails_is_told_as_a_failure_of_storage(origin: MemoryStore) -> None:
    class Full(MemoryStore):
        def put(self, key: str, file: Path) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="No space left"):
        copied(origin, Full())


def test_a_copy_that_was_committed_before_the_next_one_looked_counts(origin: MemoryStore) -> None:
    class Late(MemoryStore):
        """Another copier commits while this one claims."""

        def create(self, key: str, data: bytes) -> bool:
            if "journal" in key and not self.objects:
                inner = MemoryStore()
                inner.objects = self.objects
                copied(origin, inner, 20)
            return super().create(key, data)

    into = Late()
    found = copied(origin, into)
    assert (found.step, found.attempt, journal.latest_attempt(into)) == (20, 1, 2)


# --- the run that goes on from it ----------------------------------------------------------------------


def test_the_copy_stays_until_a_newer_one_was_verified_and_then_goes(origin: Store) -> None:
    into = MemoryStore()
    first = copied(origin, into)
    assert seal(into, journal.claim_attempt(into)) == []
    saver = own(into, 2, keep=1)
    saver.resumed_from(first)
    saver.save(30, state(30), {})
    assert saver.wait() == 30, "the step that it began from is not saved again"
    assert committed_names(into.list("checkpoints")) == [first.name]
    saver.save(40, state(40), {})
    assert saver.wait() == 40
    saver.close()
    assert committed_names(into.list("checkpoints")) == [name(40, 2)]
    assert not [file for file in into.objects if first.name in file]


def test_the_learning_rate_is_the_new_jobs_and_nothing_else_changes() -> None:
    slots = {"0000/iteration": np.asarray(7), "0001/learning_rate": np.asarray(0.1, np.float32)}
    slots["0002/kernel_momentum"] = np.arange(6, dtype=np.float32).reshape(2, 3)
    place, into = MemoryStore("fake://store/one"), MemoryStore("fake://store/two")
    saver = own(place, 1)
    saver.save(7, State({}, slots, {}, 0, 0, {}), {})
    saver.wait()
    saver.close()
    found = copied(place, into, rate=3e-4)
    assert verify(into, found) == []
    got = load(into, found, first_slot=0, slots=0).optimizer
    assert same(got, slots | {"0001/learning_rate": np.asarray(3e-4, np.float32)})


# --- real runs -----------------------------------------------------------------------------------------

CHANGED = ("sampler.step_size=3.0", "train.optimizer.learning_rate=0.002", "train.duration={steps: 15}")


def trained(job: plan.Plan, storage: Store) -> None:
    from lehr.launch import local

    assert local.run(job, storage).status == "completed"


@pytest.mark.slow
def test_a_copy_trains_on_as_the_same_state_under_other_settings_would(tmp_path: Path) -> None:
    """In a process of its own: TensorFlow's threads are set but once, and the bits depend on them."""
    program = (
        f"import pathlib, sys; sys.path[:0] = [{str(TESTS)!r}]; import unit.{Path(__file__).stem} as it; "
    )
    program += "it.trains_on_as_the_same_state(pathlib.Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr


def trains_on_as_the_same_state(tmp_path: Path) -> None:
    """Beside it, the same by hand: the original's state put into a worker of the changed job."""
    storage = jobs.storage(tmp_path)
    trained(jobs.plan(jobs.EBM, run_id="one"), storage)
    job = jobs.plan(jobs.EBM, *CHANGED, run_id="two")
    found = adopt(
        storage.below("one"), 10, storage.below("two"), spec_hash=job.spec_hash, learning_rate=0.002
    )
    assert found.step == 10
    trained(job, storage)
    reached, got = jobs.final(storage.below("two"))
    assert (reached.step, reached.attempt) == (15, 2)
    wanted = by_hand(job, storage.below("one"), steps=5)
    assert same(got.weights, wanted.weights)
    assert same(got.optimizer, wanted.optimizer)
    assert same(got.chains, wanted.chains)
    assert got.progress["meter"] == wanted.progress["meter"]
    assert [step for step, _ in jobs.story(storage.below("two"))] == [11, 12, 13, 14, 15, 15], (
        "and validation"
    )
    rates = [array for slot, array in got.optimizer.items() if slot.endswith("/learning_rate")]
    assert rates == [np.float32(0.002)]
    plain = by_hand(jobs.plan(jobs.EBM, CHANGED[2]), storage.below("one"), steps=5)
    assert not same(got.weights, plain.weights), "the changed settings matter"


def by_hand(job: plan.Plan, origin: Store, *, steps: int) -> State:
    """The state after some more steps of `job` from the newest one of another run."""
    from lehr.loop.meter import Meter
    from lehr.strategies.strategy import make
    from lehr.worker.build import build

    start, before = jobs.final(origin)
    strategy = make("single", devices=1)
    built = build(job, strategy)
    slots = {slot: array for slot, array in before.optimizer.items() if not slot.endswith("/learning_rate")}
    [rate] = before.optimizer.keys() - slots.keys()
    slots[rate] = np.asarray(job.spec.train.optimizer.learning_rate, np.float32)
    built.snapshot.put(dataclasses.replace(before, optimizer=slots))
    meter = Meter(built.objective.metrics)
    meter.restore(before.progress["meter"])
    batches = built.feed.batches(start.step)
    for step in range(start.step, start.step + steps):
        advance(built, meter, next(batches), step)
        if (step + 1) % job.steps_per_epoch == 0:
            meter.take("epoch")
    batches.close()
    return built.snapshot.take({"meter": meter.state()}, rank=0)


def advance(built: Any, meter: Any, batch: dict[str, Any], step: int) -> None:
    from lehr.loop.step import SIGNALS
    from lehr.loop.train import join

    batch |= built.memory.draw(step) | {"signals": np.zeros(SIGNALS, np.float32)}
    results = built.update([batch])
    built.memory.keep(step, join(results, without=("metrics", "signals", "exchange_s")))
    meter.add(np.asarray(results[0]["metrics"]), examples=float(batch["count"]))
    meter.take("entry")
