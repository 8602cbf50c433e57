"""Saving by several ranks and loading by as many as there are now; what is committed, kept and told."""

from __future__ import annotations

import json
import threading
import time
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fakes import FailingStore, MemoryStore, Names
from lehr import journal, store
from lehr.checkpoint import Saver, State, listing, load, newest, read_manifest, verify
from lehr.checkpoint.manifest import Manifest, Part, decode
from lehr.checkpoint.saver import KeepLast
from lehr.checkpoint.sending import Backoff
from lehr.checkpoint.shares import Patience
from lehr.checkpoint.spool import Spool
from lehr.errors import CheckpointError, StorageError, UserError
from lehr.store import Store
from ranks import SLOTS, SPEC_HASH, Ranks, is_whole, same, state


@pytest.fixture(params=["memory", "folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else store.connect(str(tmp_path))


def committed(place: Store) -> list[str]:
    return [item.name for item in listing(place) if item.manifest]


# --- what is written -----------------------------------------------------------------------------------


def test_the_layout_is_as_designed(place: Store) -> None:
    Ranks(place).save(1000)
    assert place.list("checkpoints/step-00001000.a1") == [
        f"checkpoints/step-00001000.a1/{name}"
        for name in (
            "chains-0000-of-0002.safetensors",
            "chains-0001-of-0002.safetensors",
            "manifest.json",
            "optimizer.safetensors",
            "parts/rank-0000.json",
            "parts/rank-0001.json",
            "weights.safetensors",
        )
    ]


def test_the_manifest_tells_all(place: Store) -> None:
    ranks = Ranks(place, attempt=3)
    ranks.save(40, metrics={"train/loss": 0.25, "validation/loss": float("nan")})
    document = json.loads(
        place.read("checkpoints/step-00000040.a3/manifest.json"), parse_constant=pytest.fail
    )
    assert (document["format"], document["step"], document["attempt"], document["workers"]) == (1, 40, 3, 2)
    assert document["spec_hash"] == SPEC_HASH
    assert document["versions"] == {"lehr": "0"}
    assert document["metrics"] == {"train/loss": 0.25, "validation/loss": "nan"}
    assert document["progress"] == {"step": 40, "mean": 4.0}
    spans = {part["file"]: (part["first_slot"], part["slots"]) for part in document["parts"]}
    assert spans == {
        "weights.safetensors": (None, None),
        "optimizer.safetensors": (None, None),
        "chains-0000-of-0002.safetensors": (0, SLOTS // 2),
        "chains-0001-of-0002.safetensors": (SLOTS // 2, SLOTS // 2),
    }
    for part in document["parts"]:
        assert place.size(f"checkpoints/step-00000040.a3/{part['file']}") == part["size_bytes"]
    manifest = read_manifest(place, 40, 3)
    assert np.isnan(manifest.metrics["validation/loss"])
    assert manifest.size_bytes == sum(part["size_bytes"] for part in document["parts"])


def test_without_chains_only_rank_0_has_files() -> None:
    place = MemoryStore()
    patience = Patience(5.0)
    for rank in (1, 0):  # rank 1 first: its word is there when rank 0 looks
        saver = Saver(place, rank=rank, workers=2, attempt=1, patience=patience)
        whole = state(5) if rank == 0 else None
        weights = whole.weights if whole else {}
        optimizer = whole.optimizer if whole else {}
        saver.save(5, type(state(5))(weights, optimizer, {}, 0, 0, {}), {})
        saver.wait()
    assert not [name for name in place.list() if "chains" in name]
    manifest = newest(place).manifest
    assert manifest is not None
    loaded = load(place, manifest, first_slot=0, slots=SLOTS)
    assert loaded.chains == {}
    assert same(loaded.weights, state(5).weights)


@pytest.mark.parametrize("workers", [1, 2, 3, 6])
def test_any_number_of_workers_can_go_on(workers: int) -> None:
    place = MemoryStore()
    Ranks(place, workers=workers).save(7)
    manifest = newest(place, spec_hash=SPEC_HASH).manifest
    assert manifest is not None
    assert is_whole(place, manifest)


def test_loading_reads_only_the_chains_it_needs() -> None:
    class Counting(MemoryStore):
        seen: set[str]

        def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
            self.seen.add(key.rpartition("/")[2])
            return super().read(key, start, end)

    place = Counting()
    place.seen = set()
    Ranks(place, workers=3).save(1)
    manifest = read_manifest(place, 1, 1)
    place.seen.clear()
    load(place, manifest, first_slot=2, slots=2)
    assert place.seen == {"weights.safetensors", "optimizer.safetensors", "chains-0001-of-0003.safetensors"}
    place.seen.clear()
    assert load(place, manifest, first_slot=0, slots=0).chains == {}
    assert place.seen == {"weights.safetensors", "optimizer.safetensors"}


def test_slots_that_nobody_wrote_are_told() -> None:
    place = MemoryStore()
    Ranks(place).save(1)
    with pytest.raises(CheckpointError, match=r"no chains for the slots 6 to 9\n  do: .*global_batch"):
        load(place, read_manifest(place, 1, 1), first_slot=4, slots=6)


def test_what_was_loaded_can_be_written_to() -> None:
    place = MemoryStore()
    Ranks(place, workers=1).save(1)
    loaded = load(place, read_manifest(place, 1, 1), first_slot=0, slots=SLOTS)
    for arrays in (loaded.weights, loaded.optimizer, loaded.chains):
        for array in arrays.values():
            array[...] = 0


# --- saving in the background --------------------------------------------------------------------------


class Held(MemoryStore):
    """Takes no part until it may."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.asked = threading.Event(), threading.Event()

    def put(self, key: str, file: Path) -> None:
        self.asked.set()
        assert self.go.wait(30)
        super().put(key, file)


def test_saving_does_not_hold_up_training() -> None:
    place, told = Held(), []
    saver = Saver(place, rank=0, workers=1, attempt=1, on_event=lambda event, **fields: told.append(fields))
    for step in (1, 2, 3):
        saver.save(step, state(step), {})
    assert place.asked.wait(30)
    assert (saver.committed, saver.waiting, told) == (None, 3, [])
    assert saver.wait(0.01) is None
    place.go.set()
    assert saver.wait() == 3
    assert saver.waiting == 0
    assert [fields["step"] for fields in told] == [1, 2, 3]
    assert [fields["checkpoint"] for fields in told[:2]] == ["step-00000001.a1", "step-00000002.a1"]
    assert told[0]["background_s"] >= 0.01
    assert told[2]["bytes"] == read_manifest(saver.store, 3, 1).size_bytes > 0
    saver.close()


def test_a_save_waits_for_the_one_before_to_be_on_the_local_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    go, write = threading.Event(), Spool.write
    monkeypatch.setattr(Spool, "write", lambda *given: go.wait(30) and write(*given))
    told = []
    saver = Saver(
        MemoryStore(), rank=0, workers=1, attempt=1, on_event=lambda event, **fields: told.append(fields)
    )
    saver.save(1, state(1), {})
    timer = threading.Timer(0.05, go.set)
    timer.start()
    saver.save(2, state(2), {})
    assert go.is_set()
    assert saver.wait() == 2
    assert told[0]["blocked_s"] < 0.04 < told[1]["blocked_s"]
    saver.close()


def test_a_snapshot_is_forgotten_when_it_is_on_the_local_disk() -> None:
    class Watched(np.ndarray):
        """An array that can be watched."""

    place = Held()
    saver = Saver(place, rank=0, workers=1, attempt=1)
    array = np.arange(4.0).view(Watched)
    watch = weakref.ref(array)
    saver.save(1, State({"a": array}, {}, {}, 0, 0), {})
    del array
    assert place.asked.wait(30)
    until = time.monotonic() + 90
    while watch() is not None and time.monotonic() < until:
        time.sleep(0.001)
    assert watch() is None
    place.go.set()
    assert saver.wait() == 1
    saver.close()


def test_a_step_is_saved_once(place: Store) -> None:
    ranks = Ranks(place)
    ranks.save(10)
    before = {key: place.read(key) for key in place.list()}
    assert ranks.save(10) == 10
    assert {key: place.read(key) for key in place.list()} == before
    assert len(ranks.told("checkpoint_exists")) == len(ranks.told("checkpoint_exists", rank=1)) == 1
    assert len(ranks.told("checkpoint")) == 1


def test_the_step_resumed_from_is_not_saved_again(place: Store) -> None:
    Ranks(place).save(10)
    ranks = Ranks(place, attempt=2).resume(read_manifest(place, 10, 1))
    assert ranks.save(10) == 10
    assert committed(place) == ["step-00000010.a1"]


class Switched(FailingStore):
    """Refuses every change while `out`."""

    def __init__(self, store: Store) -> None:
        self.out, self.refused = True, threading.Event()
        super().__init__(store, self._refuses)

    def _refuses(self, number: int) -> bool:
        if self.out:
            self.refused.set()
        return self.out


def test_an_outage_is_told_once_and_stands_until_a_save_succeeds() -> None:
    place = Switched(MemoryStore())
    now, told = [100.0], []
    saver = Saver(place, rank=0, workers=1, attempt=1, patience=Patience(1.0, lambda: now[0]),
                  backoff=Backoff(0.0005, 0.001),
                  on_event=lambda event, **fields: told.append((event, fields)))  # fmt: skip
    for step in (1, 2, 3):
        saver.save(step, state(step), {})
    assert saver.wait(0.05) is None
    assert len(place.changes) > 3, "it is tried again"
    assert (saver.failed_since, saver.waiting) == (100.0, 3)
    assert "could not put it: change" in saver.problem
    now[0], place.out = 160.0, False
    assert saver.wait(30) == 3
    assert (saver.failed_since, saver.problem, saver.waiting) == (None, "", 0)
    events = [(event, fields["step"]) for event, fields in told]
    assert events == [
        ("storage_outage", 1), ("storage_back", 1), ("checkpoint", 1), ("checkpoint", 2), ("checkpoint", 3),
    ]  # fmt: skip
    assert "change 1 fails" in told[0][1]["reason"]
    assert told[1][1]["after_s"] == 60.0
    saver.close()


def test_files_that_are_there_are_not_sent_again() -> None:
    place = FailingStore(MemoryStore(), lambda number: number in (2, 3, 4, 6))
    saver = Saver(place, rank=0, workers=1, attempt=1, backoff=Backoff(0.0005, 0.001))
    saver.save(1, state(1), {})
    assert saver.wait(30) == 1
    names = [change.rpartition("/")[2].partition(".")[0] for change in place.changes]
    assert names == [
        "weights", *4 * ["optimizer"], *2 * ["chains-0000-of-0001"], "rank-0000", "manifest",
    ]  # fmt: skip
    saver.close()


def test_a_file_that_the_store_lost_is_sent_once_more() -> None:
    class Forgetful(MemoryStore):
        lost = 0

        def put(self, key: str, file: Path) -> None:
            super().put(key, file)
            if key.endswith("optimizer.safetensors") and self.lost < 1:
                self.lost += 1
                self.write(key, b"half")

    place = Forgetful()
    saver = Saver(place, rank=0, workers=1, attempt=1)
    saver.save(1, state(1), {})
    assert saver.wait(30) == 1
    assert is_whole(place, read_manifest(place, 1, 1))
    saver.close()


def test_a_commit_waits_for_what_must_come_before() -> None:
    place, tries, told = MemoryStore(), [0], []

    def settle() -> None:
        tries[0] += 1
        assert "checkpoints/step-00000001.a1/parts/rank-0000.json" in place.list()
        assert "checkpoints/step-00000001.a1/manifest.json" not in place.list()
        if tries[0] < 4:
            raise StorageError("the journal is not there yet")

    saver = Saver(place, rank=0, workers=1, attempt=1, backoff=Backoff(0.0005, 0.001), before_commit=settle,
                  on_event=lambda event, **fields: told.append((event, fields.get("reason"))))  # fmt: skip
    saver.save(1, state(1), {})
    assert saver.wait(30) == 1
    assert tries == [4]
    assert told[0] == ("storage_outage", "the journal is not there yet")
    saver.close()


def test_a_listener_that_fails_ends_nothing() -> None:
    def listener(event: str, **fields: object) -> None:
        heard.append(event)
        raise ValueError("not now")

    heard: list[str] = []
    saver = Saver(MemoryStore(), rank=0, workers=1, attempt=1, on_event=listener)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "excepthook", lambda args: heard.append(str(args.exc_value)))
        saver.save(1, state(1), {})
        assert saver.wait(30) == 1
    assert heard == ["checkpoint", "not now"]
    saver.close()


def test_after_its_end_nothing_is_saved_and_nothing_stays(tmp_path: Path) -> None:
    place = Switched(MemoryStore())
    saver = Saver(place, rank=0, workers=1, attempt=1, spool=tmp_path)
    saver.save(1, state(1), {})
    assert place.refused.wait(30)
    assert len(list(tmp_path.glob("lehr-spool-*/*"))) == 3 + 1
    saver.close()
    saver.save(2, state(2), {})
    assert saver.wait() is None
    assert list(tmp_path.iterdir()) == []
    assert not saver.fenced
    assert place.list() == []


def test_our_own_mistake_fails_the_save_and_not_the_run() -> None:
    told = []
    saver = Saver(
        MemoryStore(), rank=0, workers=1, attempt=1, on_event=lambda event, **fields: told.append(fields)
    )
    whole = state(1)
    saver.save(1, type(whole)({"words": np.array(["a"])}, {}, {}, 0, 0, {}), {})
    saver.save(2, type(whole)({}, {}, {"images": np.zeros((3, 1))}, 0, 2, {}), {})
    saver.save(3, type(whole)({}, {}, {}, 0, 0, {"mean": float("nan")}), {})
    assert saver.wait() is None
    assert ["'words' is of <U1" in told[0]["reason"], "2 slots" in told[1]["reason"]] == [True, True]
    assert "not JSON compliant" in told[2]["reason"]
    assert saver.failed_since is not None


def test_rank_0_does_not_wait_for_a_rank_that_failed() -> None:
    inner = MemoryStore()

    class Refusing(MemoryStore):
        def put(self, key: str, file: Path) -> None:
            raise OSError("disk on fire")

        def write(self, key: str, data: bytes) -> None:
            inner.write(key, data)

    told = []
    other = Saver(Refusing(), rank=1, workers=2, attempt=1)
    other.save(1, state(1, rank=1, workers=2), {})
    other.wait()
    clock = Patience(1e9, sleep=lambda seconds: pytest.fail("it waits"))
    saver = Saver(inner, rank=0, workers=2, attempt=1, patience=clock,
                  on_event=lambda event, **fields: told.append(fields))  # fmt: skip
    saver.save(1, state(1, workers=2), {})
    assert saver.wait() is None
    assert told[0]["reason"] == "step-00000001.a1: rank 1 could not write its parts: disk on fire"


def test_an_excuse_arrives_after_an_outage() -> None:
    inner = MemoryStore()
    place = Switched(inner)
    other = Saver(place, rank=1, workers=2, attempt=1, backoff=Backoff(0.0005, 0.001))
    other.save(1, State({}, {}, {"images": np.zeros((3, 1))}, 0, 2), {})
    assert place.refused.wait(30)
    saver = Saver(inner, rank=0, workers=2, attempt=1)
    saver.save(1, state(1, workers=2), {})
    place.out = False
    assert (other.wait(30), saver.wait(30)) == (None, None)
    assert "rank 1 could not write its parts" in saver.problem
    saver.close()
    other.close()


def test_rank_0_waits_no_longer_than_it_may() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    told = []
    saver = Saver(MemoryStore(), rank=0, workers=4, attempt=1, patience=Patience(20.0, lambda: now[0], sleep),
                  on_event=lambda event, **fields: told.append(fields))  # fmt: skip
    saver.save(1, state(1), {})
    assert saver.wait() is None
    assert told[0]["reason"] == "step-00000001.a1: no parts from rank 1, 2, 3 in 20 s"
    assert 20 <= now[0] < 22


def test_patience_with_ranks_is_not_for_outages() -> None:
    """Rank 0 cannot list for an hour; the others have ten seconds after that."""
    now, listings = [0.0], [0]

    class Blind(MemoryStore):
        def list(self, prefix: str = "") -> Names:
            listings[0] += prefix.endswith("/parts")
            if 3 <= listings[0] < 20:
                now[0] += 200.0
                raise StorageError("nothing to see")
            return super().list(prefix)

    def sleep(seconds: float) -> None:
        now[0] += 1.0

    told = []
    saver = Saver(Blind(), rank=0, workers=2, attempt=1, patience=Patience(10.0, lambda: now[0], sleep),
                  backoff=Backoff(0.0005, 0.001),
                  on_event=lambda event, **fields: told.append((event, fields)))  # fmt: skip
    saver.save(1, state(1, workers=2), {})
    assert saver.wait(30) is None
    assert [event for event, _ in told] == ["storage_outage", "checkpoint_failed"]
    assert "no parts from rank 1 in 10 s" in told[1][1]["reason"]
    assert now[0] >= 17 * 200 + 9
    saver.close()


def test_an_attempt_that_was_followed_by_another_commits_nothing(place: Store) -> None:
    assert journal.claim_attempt(place) == 1
    ranks = Ranks(place)
    ranks.save(1)
    assert journal.claim_attempt(place) == 2
    assert ranks.save(2) == 1
    assert ranks.savers[0].fenced
    assert "attempt 1 is over: a later attempt" in ranks.told("checkpoint_failed")[0]["reason"]
    assert committed(place) == ["step-00000001.a1"]
    later = Ranks(place, attempt=2).resume(read_manifest(place, 1, 1))
    assert later.save(2) == 2
    assert committed(place) == ["step-00000002.a2", "step-00000001.a1"]
    assert place.folders("checkpoints") == ["step-00000001.a1", "step-00000002.a2"], (
        "remains of 2.a1 are gone"
    )


# --- what is kept --------------------------------------------------------------------------------------


def test_the_last_and_the_best_are_kept(place: Store) -> None:
    best = SimpleNamespace(metric="validation/loss", mode="min")
    ranks = Ranks(place, policy=KeepLast(2, best))
    for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0), (4, float("nan")), (5, 4.0)):
        ranks.save(step, metrics={"validation/loss": loss})
    assert place.folders("checkpoints") == [f"step-0000000{step}.a1" for step in (2, 4, 5)]
    assert [fields["deleted"] for fields in ranks.told("checkpoint")] == [
        [], [], ["step-00000001.a1"], [], ["step-00000003.a1"],
    ]  # fmt: skip


def test_deletion_takes_the_manifest_first() -> None:
    place = FailingStore(MemoryStore(), lambda number: False)
    Ranks(place, policy=KeepLast(1)).save(1, 2)
    deletions = [change for change in place.changes if change.startswith("delete")]
    assert len(deletions) == len(set(deletions)) == 7
    assert deletions[0] == "delete checkpoints/step-00000001.a1/manifest.json"


class Bad(MemoryStore):
    """Keeps the sizes and loses the bits of what is written once `spoil` is set."""

    spoil = False

    def write(self, key: str, data: bytes) -> None:
        super().write(key, bytes(len(data)) if self.spoil and key.endswith(".safetensors") else data)


def test_the_one_resumed_from_stays_until_a_newer_one_was_verified() -> None:
    place = Bad()
    Ranks(place, policy=KeepLast(1)).save(1)
    ranks = Ranks(place, attempt=2).resume(read_manifest(place, 1, 1))
    place.spoil = True
    assert ranks.save(2, 3, 4) == 1
    reasons = [fields["reason"] for fields in ranks.told("checkpoint_failed")]
    assert len(reasons) == 3
    assert all("SHA-256 differs" in reason for reason in reasons)
    found = newest(place)
    assert found.manifest is not None
    assert (found.manifest.step, [name for name, _ in found.skipped]) == (
        1, ["step-00000004.a2", "step-00000003.a2", "step-00000002.a2"],
    )  # fmt: skip
    place.spoil = False
    assert ranks.save(5) == 5
    assert committed(place) == ["step-00000005.a2", "step-00000001.a1"], "the bad ones do not count"
    assert ranks.save(6) == 6
    assert committed(place) == ["step-00000006.a2", "step-00000005.a2"]
    assert not any(verify(place, item.manifest) for item in listing(place) if item.manifest)


def test_the_only_one_goes_when_the_next_was_verified() -> None:
    place = Bad()
    ranks = Ranks(place, policy=KeepLast(1))
    ranks.save(1)
    place.spoil = True
    assert ranks.save(2) == 1
    found = newest(place)
    assert found.manifest is not None
    assert found.manifest.step == 1


def test_a_broken_one_ahead_is_replaced(place: Store) -> None:
    """After falling back, the broken newest one would else be the newest for ever."""
    Ranks(place).save(10, 20)
    place.write("checkpoints/step-00000020.a1/weights.safetensors", b"")
    found = newest(place)
    assert found.manifest is not None
    assert found.manifest.step == 10
    ranks = Ranks(place, attempt=2).resume(found.manifest)
    ranks.save(15)
    assert committed(place) == ["step-00000015.a2", "step-00000010.a1"]
    assert newest(place).skipped == ()
    ranks.save(20)
    assert committed(place) == ["step-00000020.a2", "step-00000015.a2"]


def test_deleting_that_fails_is_told_and_done_later() -> None:
    class NoDelete(MemoryStore):
        allowed = False

        def delete(self, key: str) -> None:
            if not self.allowed and key.endswith("weights.safetensors"):
                raise StorageError("not allowed")
            super().delete(key)

    place = NoDelete()
    ranks = Ranks(place)
    assert ranks.save(1, 2, 3) == 3
    assert ranks.told("checkpoint_retention_failed")[0]["reason"] == "not allowed"
    assert ranks.savers[0].failed_since is None
    place.allowed = True
    ranks.save(4)
    assert place.folders("checkpoints") == ["step-00000003.a1", "step-00000004.a1"]


# --- which one is the newest ---------------------------------------------------------------------------


def test_there_may_be_none(place: Store) -> None:
    found = newest(place, spec_hash=SPEC_HASH)
    assert found.manifest is None
    assert found.skipped == ()


def test_the_newest_is_by_step_then_attempt(place: Store) -> None:
    Ranks(place, attempt=1, policy=KeepLast(9)).save(10, 30)
    Ranks(place, attempt=2, policy=KeepLast(9)).save(30)
    Ranks(place, attempt=3, policy=KeepLast(9)).save(20)
    names = ["step-00000030.a2", "step-00000030.a1", "step-00000020.a3", "step-00000010.a1"]
    assert committed(place) == names
    found = newest(place)
    assert found.manifest is not None
    assert found.manifest.name == "step-00000030.a2"


def test_another_jobs_checkpoint_stops_the_run(place: Store) -> None:
    Ranks(place).save(1)
    with pytest.raises(UserError, match=r"spec_hash 5{16}, not this job's 6{16}") as caught:
        newest(place, spec_hash="6" * 64)
    assert "--run" in str(caught.value)
    assert "init_from" in str(caught.value)


def test_a_step_can_be_asked_for(place: Store) -> None:
    Ranks(place, policy=KeepLast(9)).save(1, 2, 3)
    found = newest(place, step=2)
    assert found.manifest is not None
    assert (found.manifest.step, found.skipped) == (2, ())
    with pytest.raises(UserError, match=r"no checkpoint of step 4\n  accepted: 1, 2, 3"):
        newest(place, step=4)


def test_a_manifest_that_is_not_there_is_told(place: Store) -> None:
    with pytest.raises(CheckpointError, match=r"step-00000001.a1: manifest.json cannot be read"):
        read_manifest(place, 1, 1)


def test_other_folders_are_let_be(place: Store) -> None:
    place.write("checkpoints/notes.txt", b"1")
    place.write("checkpoints/mine/manifest.json", b"1")
    place.write("checkpoints/step-1.a1/manifest.json", b"1")
    Ranks(place, policy=KeepLast(1)).save(1, 2)
    assert committed(place) == ["step-00000002.a1"]
    assert len(place.list("checkpoints")) == 3 + 7


def test_a_manifest_survives_its_file_and_no_bit_may_flip() -> None:
    manifest = Manifest(
        step=3, attempt=2, spec_hash="ab", workers=2, parts=(Part("w", 1, "00"), Part("c", 2, "11", 0, 4)),
        metrics={"a": 0.1}, progress={"b": [1, 2.5, None, "x"]}, versions={"c": "1"}, time=1.5,
    )  # fmt: skip
    data = manifest.encode()
    assert decode(data) == manifest
    for position in range(len(data)):
        for bit in (1, 128):
            with pytest.raises(ValueError, match=r".+"):
                decode(data[:position] + bytes([data[position] ^ bit]) + data[position + 1 :])
