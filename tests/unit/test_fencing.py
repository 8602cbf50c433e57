"""An attempt that was followed by another changes nothing that counts, at whatever moment that happened."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import FailingStore, MemoryStore, Names
from lehr import journal
from lehr.checkpoint import Saver, committed_names, listing, newest, read_manifest, seal, verify
from lehr.checkpoint.manifest import SEALED, Tombstone, decode_tombstone, key
from lehr.checkpoint.saver import KeepLast
from lehr.errors import StorageError
from lehr.fence import Fence
from lehr.store import Store
from ranks import Ranks, is_whole, state

OLD, NEW = 0, 1


class Turns:
    """Lets two actors at a store take turns, in a given order; when one has finished, the other goes on."""

    def __init__(self, order: list[int]) -> None:
        self.taken: list[int] = []
        self._order, self._done = iter(order), [False, False]
        self._next = next(self._order, NEW)
        self._changed = threading.Condition()

    def take(self, actor: int, work: Callable[[], Any]) -> Any:
        with self._changed:
            mine = self._changed.wait_for(lambda: self._next == actor or self._done[1 - actor], 30)
            assert mine, "nobody takes turns any more"
            try:
                return work()
            finally:
                self.taken.append(actor)
                self._next = next(self._order, NEW)
                self._changed.notify_all()

    def finish(self, actor: int) -> None:
        with self._changed:
            self._done[actor] = True
            self._changed.notify_all()


class Seat(MemoryStore):
    """The store as one actor has it: each operation is a turn of his."""

    def __init__(self, place: MemoryStore, turns: Turns, actor: int) -> None:
        super().__init__()
        self.place, self.turns, self.actor = place, turns, actor

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        return self.turns.take(self.actor, lambda: self.place.read(key, start, end))  # type: ignore[no-any-return]

    def write(self, key: str, data: bytes) -> None:
        self.turns.take(self.actor, lambda: self.place.write(key, data))

    def create(self, key: str, data: bytes) -> bool:
        return self.turns.take(self.actor, lambda: self.place.create(key, data))  # type: ignore[no-any-return]

    def list(self, prefix: str = "") -> Names:
        return self.turns.take(self.actor, lambda: self.place.list(prefix))  # type: ignore[no-any-return]

    def size(self, key: str) -> int | None:
        return self.turns.take(self.actor, lambda: self.place.size(key))  # type: ignore[no-any-return]

    def delete(self, key: str) -> None:
        self.turns.take(self.actor, lambda: self.place.delete(key))


def begun() -> MemoryStore:
    """Attempt 1 has committed step 10."""
    place = MemoryStore()
    ranks = Ranks(place, attempt=journal.claim_attempt(place), workers=1, policy=KeepLast(1))
    assert ranks.save(10) == 10
    ranks.close()
    return place


def old_saves(place: Store, *, fresh_s: float = 1e9) -> Saver:
    """Attempt 1 saves step 20, and would then delete step 10; it believes an answer of the fence for so long
    where it may."""
    fence = Fence(place, 1, fresh_s=fresh_s)
    saver = Saver(place, rank=0, workers=1, attempt=1, keep=KeepLast(1), fence=fence)
    saver.save(20, state(20), {})
    saver.wait(60)
    saver.close()
    return saver


def new_begins(place: Store) -> tuple[set[str], str]:
    """Attempt 2 begins; what it finds, and the name of what it goes on from."""
    seal(place, journal.claim_attempt(place))
    there = {item.name for item in listing(place) if item.committed}
    manifest = newest(place).manifest
    assert manifest is not None
    return there, manifest.name


def play(order: list[int]) -> list[int]:
    """Both at once, with their turns in `order`; the turns taken."""
    place, turns, found = begun(), Turns(order), list[tuple[set[str], str]]()

    def new() -> None:
        found.append(new_begins(Seat(place, turns, NEW)))
        turns.finish(NEW)

    thread = threading.Thread(target=new)
    thread.start()
    saver = old_saves(Seat(place, turns, OLD))
    turns.finish(OLD)
    thread.join(60)
    [(there, name)] = found
    after = {item.name for item in listing(place) if item.committed}
    assert after <= there, "it was committed behind the new attempt's back"
    assert name in after
    assert not verify(place, read_manifest(place, int(name[5:13]), 1)), "what the new attempt had chosen"
    assert (saver.committed == 20) == (name == "step-00000020.a1")
    assert saver.fenced or saver.committed == 20
    if saver.committed != 20:
        assert newest(place).manifest == read_manifest(place, 10, 1)
    return turns.taken


LENGTH = play(60 * [OLD]).count(OLD)  # turns that a save takes, with all that is deleted after it


def test_a_save_is_of_a_telling_length() -> None:
    # 3 parts, 1 descriptor, a manifest, and 5 deletions, with a question before each and looks in between
    assert LENGTH > 20


@pytest.mark.parametrize("k", range(LENGTH + 1))
def test_one_that_was_frozen_at_any_moment(k: int) -> None:
    play(k * [OLD] + 100 * [NEW])


@settings(deadline=None, max_examples=150)
@given(st.lists(st.sampled_from([OLD, NEW]), min_size=10, max_size=60))
def test_two_at_once_in_any_order(order: list[int]) -> None:
    play(order)


@pytest.mark.parametrize("k", range(LENGTH + 12))  # it asks more often than above
def test_one_that_thaws_after_the_new_one_has_saved(k: int) -> None:
    """What it still does is the change that it was at, and to the end of the folder that it was deleting."""
    place, before = begun(), list[dict[str, bytes]]()

    def new() -> None:
        _, name = new_begins(place)
        ranks = Ranks(place, attempt=2, workers=1, policy=KeepLast(2), grace_s=3600.0)
        ranks.resume(read_manifest(place, int(name[5:13]), 1))
        assert ranks.save(30, 40) == 40
        ranks.close()
        before.append(dict(place.objects))

    store = Frozen(place, k, new)
    saver = old_saves(store, fresh_s=0.0)  # as after a night
    if not before:
        return  # it was done before the new one began
    changed = {file for file in before[0].keys() | place.objects.keys()
               if before[0].get(file) != place.objects.get(file)}  # fmt: skip
    assert changed <= store.changes_after, "nothing else"
    folders = {file.split("/")[1] for file in changed}
    assert len(folders) <= 1
    assert len(changed) <= 1 or folders == {"step-00000010.a1"}
    assert saver.committed == 20 or folders <= {"step-00000020.a1"}
    found = newest(place)
    assert found.manifest is not None
    assert (found.manifest.name, is_whole(place, found.manifest)) == ("step-00000040.a2", True)


class Frozen(MemoryStore):
    """Freezes its user before his k-th operation, while others work."""

    def __init__(self, place: MemoryStore, k: int, others: Callable[[], None]) -> None:
        super().__init__()
        self.place, self.k, self.others = place, k, others
        self.count = 0
        self.changes_after: set[str] = set()

    def _thaw(self, change: str = "") -> None:
        if self.count == self.k:
            self.others()
        self.count += 1
        if self.count > self.k:
            self.changes_after |= {change}

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        self._thaw()
        return self.place.read(key, start, end)

    def write(self, key: str, data: bytes) -> None:
        self._thaw(key)
        self.place.write(key, data)

    def create(self, key: str, data: bytes) -> bool:
        self._thaw(key)
        return self.place.create(key, data)

    def list(self, prefix: str = "") -> Names:
        self._thaw()
        return self.place.list(prefix)

    def size(self, key: str) -> int | None:
        self._thaw()
        return self.place.size(key)

    def delete(self, key: str) -> None:
        self._thaw(key)
        self.place.delete(key)


# --- sealing -------------------------------------------------------------------------------------------

HALF = "step-00000020.a1"


def half_saved() -> MemoryStore:
    """Attempt 1 has committed step 10, and was killed before the manifest of step 20."""
    place = begun()
    for file in ("weights.safetensors", "parts/rank-0000.json"):
        place.write(key(HALF, file), b"1")
    return place


def test_what_was_left_open_is_closed() -> None:
    place = half_saved()
    assert journal.claim_attempt(place) == 2
    assert seal(place, 2) == [HALF]
    tombstone = decode_tombstone(place.read(key(HALF)))
    assert tombstone is not None
    assert tombstone.superseded_by == 2
    [item] = [item for item in listing(place) if item.name == HALF]
    assert (item.manifest, item.committed) == (None, False)
    assert item.problem == "closed by attempt 2: it was never completed"
    assert newest(place).skipped == ((HALF, item.problem),)
    assert committed_names(place.list("checkpoints")) == ["step-00000010.a1"]
    assert seal(place, 2) == seal(place, 3) == [], "once is enough"


def test_the_own_folders_and_the_committed_stay_open() -> None:
    place = half_saved()
    before = dict(place.objects)
    assert seal(place, 1) == []
    assert place.objects == before
    seal(place, 2)
    assert place.objects.keys() - before.keys() == {key(HALF), key(HALF, SEALED)}


@pytest.mark.parametrize("after", [True, False], ids=["answer lost", "refused"])
@pytest.mark.parametrize("n", [1, 2])
def test_sealing_that_was_broken_off_is_finished_by_the_next(n: int, after: bool) -> None:
    place = half_saved()
    with pytest.raises(StorageError):
        seal(FailingStore(place, lambda number: number == n, after=after), 2)
    assert committed_names(place.list("checkpoints")) == ["step-00000010.a1"], "at no time it passes for one"
    seal(place, 3)
    assert decode_tombstone(place.read(key(HALF)))
    assert key(HALF, SEALED) in place.objects
    assert committed_names(place.list("checkpoints")) == ["step-00000010.a1"]


def test_a_commit_that_came_first_counts() -> None:
    """The old attempt's manifest arrives between the new one's look and its tombstone."""
    place = begun()
    manifest = place.objects.pop(key("step-00000010.a1"))

    class Late(MemoryStore):
        def create(self, key: str, data: bytes) -> bool:
            place.write(key, manifest)
            return super().create(key, data)

    late = Late()
    late.objects = place.objects
    assert seal(late, 2) == []
    assert committed_names(place.list("checkpoints")) == ["step-00000010.a1"]
    assert newest(place).manifest == read_manifest(place, 10, 1)


def test_a_mark_left_on_a_checkpoint_is_taken_off() -> None:
    place = begun()
    place.write(key("step-00000010.a1", SEALED), b"\n")
    assert committed_names(place.list("checkpoints")) == []
    seal(place, 2)
    assert committed_names(place.list("checkpoints")) == ["step-00000010.a1"]


def test_what_was_closed_goes_after_a_time_of_grace() -> None:
    place = half_saved()
    seal(place, 2)
    ranks = Ranks(place, attempt=2, workers=1, grace_s=3600.0)
    ranks.save(30)
    assert HALF in place.folders("checkpoints")
    place.write(key(HALF), Tombstone(2, 0.0).encode())
    ranks.save(40)
    assert HALF not in place.folders("checkpoints")
    ranks.close()


def test_what_arrives_after_the_sealing_is_closed_at_the_next_save() -> None:
    place = begun()
    seal(place, 2)
    place.write(key(HALF, "weights.safetensors"), b"1")
    ranks = Ranks(place, attempt=2, workers=1, grace_s=3600.0)
    ranks.save(30)
    ranks.close()
    assert decode_tombstone(place.read(key(HALF)))


def test_sweeping_that_is_broken_off_leaves_it_closed(tmp_path: Path) -> None:
    for n in range(1, 5):
        place = half_saved()
        place.write(key(HALF, SEALED), b"\n")
        place.write(key(HALF), Tombstone(2, 0.0).encode())
        changes = FailingStore(place, lambda number, n=n: number >= 7 + n)  # type: ignore[misc]
        ranks = Ranks(changes, attempt=2, workers=1, policy=KeepLast(9))
        ranks.save(30)
        assert "sealed" not in str(ranks.told("checkpoint_failed"))
        ranks.close()
        left = [file for file in place.list("checkpoints") if HALF in file]
        assert not left or key(HALF, SEALED) in left
        assert HALF not in committed_names(place.list("checkpoints"))
