"""Whatever fails, whenever: the run finds its newest good checkpoint, says what it skipped, and goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes import FailingStore, MemoryStore
from lehr import journal, store
from lehr.checkpoint import listing, load, load_newest, newest, read_manifest, seal, verify
from lehr.checkpoint.manifest import Manifest
from lehr.checkpoint.saver import KeepLast
from lehr.errors import CheckpointError, StorageError
from lehr.store import Store
from ranks import SLOTS, SPEC_HASH, Ranks, is_whole

STEPS = (10, 20, 30, 40)
NEWEST, BEFORE = "step-00000040.a1", "step-00000030.a1"


def changes() -> int:
    """How many changes the undisturbed sequence makes to the store."""
    place = FailingStore(MemoryStore(), lambda number: False)
    assert Ranks(place).save(*STEPS) == STEPS[-1]
    return len(place.changes)


CHANGES = changes()
KINDS: dict[str, tuple[Callable[[int], Callable[[int], bool]], bool]] = {
    "once": (lambda n: lambda number: number == n, False),
    "once, answer lost": (lambda n: lambda number: number == n, True),
    "five times": (lambda n: lambda number: n <= number < n + 5, False),
    "five times, answers lost": (lambda n: lambda number: n <= number < n + 5, True),
}


def test_the_sequence_is_of_a_telling_length() -> None:
    # 4 saves of 4 parts, 2 descriptors and a manifest, two deletions of 7.
    assert CHANGES == 4 * 7 + 2 * 7


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", range(1, CHANGES + 1))
def test_a_store_that_fails_at_the_nth_change(n: int, kind: str) -> None:
    """All is saved nevertheless, in order, and each is whole."""
    inner = MemoryStore()
    journal.claim_attempt(inner)
    failing, after = KINDS[kind]
    ranks = Ranks(FailingStore(inner, failing(n), after=after))
    for step in STEPS:
        assert ranks.save(step) == step
        found = newest(inner, spec_hash=SPEC_HASH)  # as a process would that begins now
        assert found.manifest is not None
        assert found.manifest.step == step
        assert is_whole(inner, found.manifest)
    assert [fields["step"] for fields in ranks.told("checkpoint")] == list(STEPS)
    assert not ranks.told("checkpoint_failed")
    assert len(ranks.told("storage_outage")) == len(ranks.told("storage_back")) <= 5
    ranks.close()
    _goes_on(inner)


@pytest.mark.parametrize("returns", [True, False], ids=["comes back", "is killed"])
@pytest.mark.parametrize("n", range(1, CHANGES + 1))
def test_a_store_that_is_out_from_the_nth_change_on(n: int, returns: bool) -> None:
    """What was handed over meanwhile is saved in order when the store is back; the killed one's successor
    goes on from the newest that was committed."""
    inner = MemoryStore()
    journal.claim_attempt(inner)
    out, refused = [True], threading.Event()

    def fails(number: int) -> bool:
        if number >= n:
            refused.set()
        return out[0] and number >= n

    ranks = Ranks(FailingStore(inner, fails))
    ranks.hand_over(*STEPS)
    assert refused.wait(30)
    _is_safe(inner, ranks)
    if not returns:
        ranks.close()
        _is_safe(inner, ranks)
    else:
        out[0] = False
        ranks.wait()
        assert [fields["step"] for fields in ranks.told("checkpoint")] == list(STEPS)
        assert [fields["step"] for fields in ranks.told("checkpoint_part", rank=1)] == list(STEPS)
        assert not ranks.told("checkpoint_failed")
        ranks.close()
    _goes_on(inner)


def _is_safe(place: Store, ranks: Ranks) -> None:
    """A process that begins now finds what rank 0 takes for committed, or later."""
    committed = ranks.savers[0].committed
    found = newest(place, spec_hash=SPEC_HASH)
    assert (found.manifest.step if found.manifest else 0) >= (committed or 0)
    assert found.manifest is None or is_whole(place, found.manifest)


def _goes_on(place: Store) -> None:
    """The next attempt resumes there, saves what it likes, and leaves nothing of the disorder."""
    attempt = journal.claim_attempt(place)
    seal(place, attempt)
    found = newest(place)
    ranks = Ranks(place, attempt=attempt)
    if found.manifest is not None:
        ranks.resume(found.manifest)
    assert ranks.save(50, 60) == 60
    ranks.close()
    assert place.folders("checkpoints") == ["step-00000050.a2", "step-00000060.a2"]
    after = newest(place)
    assert after.manifest is not None
    assert (after.manifest.step, after.skipped) == (60, ())
    assert is_whole(place, after.manifest)


# --- damage --------------------------------------------------------------------------------------------


def saved(policy: KeepLast | None = None) -> MemoryStore:
    place = MemoryStore()
    Ranks(place, policy=policy).save(*STEPS)
    return place


def parts(name: str) -> list[str]:
    place = saved()
    manifest = next(item.manifest for item in listing(place) if item.name == name)
    assert manifest is not None
    return [part.file for part in manifest.parts]


FILES = ("weights.safetensors", "optimizer.safetensors", "chains-0000-of-0002.safetensors",
         "chains-0001-of-0002.safetensors")  # fmt: skip


def flipped(data: bytes, where: float) -> bytes:
    position = min(int(where * len(data)), len(data) - 1)
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


DAMAGE: dict[str, tuple[Callable[[bytes], bytes | None], str]] = {
    "gone": (lambda data: None, "is missing"),
    "empty": (lambda data: b"", "has 0 bytes, not the"),
    "truncated": (lambda data: data[:-1], "not the"),
    "longer": (lambda data: data + b"\0", "not the"),
    "first bit": (lambda data: flipped(data, 0.0), "its SHA-256 differs"),
    "a bit of the header": (lambda data: flipped(data, 0.2), "its SHA-256 differs"),
    "a bit of the numbers": (lambda data: flipped(data, 0.9), "its SHA-256 differs"),
    "last bit": (lambda data: flipped(data, 1.0), "its SHA-256 differs"),
}


def spoil(place: MemoryStore, key: str, damage: str) -> None:
    data = DAMAGE[damage][0](place.objects[key])
    if data is None:
        del place.objects[key]
    else:
        place.objects[key] = data


def test_an_outage_is_no_damage() -> None:
    """To pass over what cannot be read for now would send the run back, and the next save would delete it."""
    place = saved()
    for key in place.list("checkpoints"):
        blind = Blind(place, key)
        if not key.startswith(f"checkpoints/{NEWEST}/") or "/parts/" in key:
            continue
        with pytest.raises(StorageError, match="503"):
            newest(blind)
        with pytest.raises(StorageError, match="503"):
            load_newest(blind, first_slot=0, slots=SLOTS)
        if not key.endswith("manifest.json"):
            manifest = read_manifest(place, 40, 1)
            assert any("cannot be read: 503" in problem for problem in verify(blind, manifest))


class Blind(FailingStore):
    """Cannot read one key for now."""

    def __init__(self, store: Store, key: str) -> None:
        super().__init__(store, lambda number: False)
        self.key = key

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        if key == self.key:
            raise StorageError("503")
        return super().read(key, start, end)


def test_the_files_are_all() -> None:
    assert parts(NEWEST) == list(FILES)


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_part(file: str, damage: str) -> None:
    place = saved()
    spoil(place, f"checkpoints/{NEWEST}/{file}", damage)
    found = newest(place, spec_hash=SPEC_HASH)
    assert found.manifest is not None
    assert found.manifest.name == BEFORE
    assert is_whole(place, found.manifest)
    [(name, reason)] = found.skipped
    assert name == NEWEST
    assert reason.startswith(file)
    assert DAMAGE[damage][1] in reason
    loaded = load_newest(place, spec_hash=SPEC_HASH, first_slot=0, slots=3)
    assert (loaded.manifest, [name for name, _ in loaded.skipped]) == (found.manifest, [NEWEST])
    assert loaded.skipped[0][1].startswith(file)


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_loaded_is_verified_once_more(damage: str) -> None:
    place = saved()
    found = newest(place)
    assert found.manifest is not None
    spoil(place, f"checkpoints/{NEWEST}/chains-0001-of-0002.safetensors", damage)
    load(place, found.manifest, first_slot=0, slots=3)
    with pytest.raises(
        CheckpointError, match=r"a1: chains-0001-of-0002.safetensors .*\n  do: restore the files"
    ):
        load(place, found.manifest, first_slot=2, slots=2)


def test_several_damages_are_all_told() -> None:
    place = saved()
    spoil(place, f"checkpoints/{NEWEST}/{FILES[0]}", "gone")
    spoil(place, f"checkpoints/{NEWEST}/{FILES[3]}", "truncated")
    [(_, reason)] = newest(place).skipped
    assert FILES[0] in reason
    assert FILES[3] in reason


def test_a_deleted_manifest() -> None:
    place = saved()
    place.delete(f"checkpoints/{NEWEST}/manifest.json")
    found = newest(place)
    assert found.manifest is not None
    assert found.manifest.name == BEFORE
    assert is_whole(place, found.manifest)
    [(name, reason)] = found.skipped
    assert (name, reason.split(":")[0]) == (NEWEST, "no manifest.json")


def altered(**fields: object) -> Callable[[bytes], bytes]:
    return lambda data: json.dumps(json.loads(data) | fields).encode()


GARBAGE: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "no text": lambda data: b"\xff\xfe\x00",
    "a list": lambda data: b"[]",
    "an empty object": lambda data: b"{}",
    "another format": altered(format=99),
    "another step": altered(step=41),
    "an unknown field": altered(colour="red"),
    "parts that are none": altered(parts=[{"file": "weights.safetensors"}]),
    "parts that are a number": altered(parts=7),
    "metrics that are none": altered(metrics=None),
    "another slot": altered(workers=3),
    "a flipped bit of progress": lambda data: data.replace(b'"mean": 4.0', b'"mean": 5.0'),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_a_garbage_manifest(kind: str) -> None:
    place = saved()
    key = f"checkpoints/{NEWEST}/manifest.json"
    place.objects[key] = GARBAGE[kind](place.objects[key])
    found = newest(place)
    assert found.manifest is not None
    assert found.manifest.name == BEFORE
    [(name, reason)] = found.skipped
    assert name == NEWEST
    assert reason.startswith("manifest.json cannot be read: ")


def test_when_none_is_good_it_stops_and_says_all() -> None:
    place = saved(KeepLast(3))
    spoil(place, f"checkpoints/{NEWEST}/{FILES[1]}", "truncated")
    place.objects[f"checkpoints/{BEFORE}/manifest.json"] = b"{"
    spoil(place, f"checkpoints/step-00000020.a1/{FILES[2]}", "last bit")
    with pytest.raises(CheckpointError) as caught:
        newest(place)
    first, *rest, do = str(caught.value).splitlines()
    assert first == "fake://store/checkpoints: there are checkpoints, and none can be loaded"
    assert [line.split(":")[0].strip() for line in rest] == [NEWEST, BEFORE, "step-00000020.a1"]
    assert "optimizer.safetensors has" in rest[0]
    assert do.startswith("  do: restore the files, or train under another --run id")
    assert "init_from" in do


def test_remains_alone_are_no_checkpoints() -> None:
    """A first save that was cut short: the run starts from the beginning, and says what lies there."""
    place = saved(KeepLast(1))
    place.delete(f"checkpoints/{NEWEST}/manifest.json")
    found = newest(place)
    assert found.manifest is None
    assert [name for name, _ in found.skipped] == [NEWEST]


def test_evidence_is_not_cleaned_away() -> None:
    place = saved()
    place.objects[f"checkpoints/{NEWEST}/manifest.json"] = b"{"
    found = newest(place)
    assert found.manifest is not None
    Ranks(place, attempt=2).resume(found.manifest).save(50, 60, 70)
    assert NEWEST in place.folders("checkpoints")


# --- kill -9 -------------------------------------------------------------------------------------------

VICTIM = """
import sys, itertools
from ranks import Ranks
from lehr import journal, store
from lehr.checkpoint import newest
place = store.connect(sys.argv[1])
ranks = Ranks(place, attempt=journal.claim_attempt(place))
found = newest(place).manifest
if found:
    ranks.resume(found)
for step in itertools.count(found.step + 1 if found else 1):
    print(ranks.save(step), flush=True)
"""


def test_kill_9_while_it_saves(tmp_path: Path) -> None:
    place = store.connect(str(tmp_path))
    reached = 0
    for delay_s in (0.0, 0.003, 0.007, 0.013, 0.02):
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
        with subprocess.Popen([sys.executable, "-c", VICTIM, str(tmp_path)], stdout=subprocess.PIPE,
                              text=True, env=environment) as victim:  # fmt: skip
            assert victim.stdout is not None
            first = int(victim.stdout.readline())
            assert first == reached + 1, "it went on where the one before was safe"
            time.sleep(delay_s)
            victim.send_signal(signal.SIGKILL)
            told = [int(line) for line in victim.stdout.read().split()]
        found = newest(place)
        assert found.manifest is not None
        assert found.manifest.step >= max([first, *told])
        assert is_whole(place, found.manifest)
        reached = found.manifest.step
    _, older = [item.manifest for item in listing(place) if isinstance(item.manifest, Manifest)][:2]
    assert older is not None
    assert is_whole(place, read_manifest(place, older.step, older.attempt))
