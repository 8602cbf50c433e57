"""Where saves wait for the store: a bounded folder, full disks, and what is given up then."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import FailingStore, MemoryStore
from lehr.checkpoint import Saver, State, committed_names, newest, parts
from lehr.checkpoint.saver import KeepLast
from lehr.checkpoint.sending import Backoff
from lehr.checkpoint.spool import Spool, size_bytes
from lehr.store import Store
from ranks import Ranks, is_whole, same, state

SIZE = size_bytes(parts.files(state(1), rank=0, workers=1))
FILE_SIZE = sum(len(parts.encode(arrays)) for arrays in parts.files(state(1), rank=0, workers=1).values())


class Gate(FailingStore):
    """Is out until opened."""

    def __init__(self, store: Store) -> None:
        self.open, self.refused = False, threading.Event()
        super().__init__(store, self._refuses)

    def _refuses(self, number: int) -> bool:
        if not self.open:
            self.refused.set()
        return not self.open


def outage(*, room: int | None = None, **options: Any) -> tuple[MemoryStore, Gate, Ranks]:
    """A store that is out, one rank, and a spool with room for so many saves; step 1 is being sent."""
    inner = MemoryStore()
    place = Gate(inner)
    size = {} if room is None else {"spool_bytes": room * FILE_SIZE}
    ranks = Ranks(place, workers=1, policy=KeepLast(9), **size, **options)
    ranks.hand_over(1)
    assert place.refused.wait(30)
    return inner, place, ranks


def committed_steps(place: Store) -> list[int]:
    return [int(name[5:13]) for name in committed_names(place.list("checkpoints"))]


# --- too little room -----------------------------------------------------------------------------------


def test_the_oldest_that_waits_is_dropped_and_the_newest_are_saved() -> None:
    inner, place, ranks = outage(room=3)
    ranks.hand_over(2, 3, 4, 5, 6, 7)
    ranks.hand_over(7)  # returns when 7 is placed
    place.open = True
    ranks.wait()
    ranks.close()
    assert committed_steps(inner) == [1, 6, 7]
    dropped = ranks.told("checkpoint_dropped")
    assert [fields["step"] for fields in dropped] == [2, 3, 4, 5]
    assert dropped[0]["checkpoint"] == "step-00000002.a1"
    assert "bytes do not fit into the spool of" in dropped[0]["reason"]
    assert not ranks.told("checkpoint_failed")
    assert all(is_whole(inner, m) for m in [newest(inner).manifest] if m)


def test_the_spool_is_never_larger_than_it_may(tmp_path: Path) -> None:
    _, place, ranks = outage(room=3, spool=tmp_path)
    for step in range(2, 12):
        ranks.hand_over(step, step)  # the second returns when the first is placed
        held = sum(path.stat().st_size for path in tmp_path.glob("lehr-spool-*/*"))
        assert held <= 3 * FILE_SIZE
    place.open = True
    ranks.wait()
    assert [path.name for path in tmp_path.glob("lehr-spool-*/*")] == ["lock"], "what was sent is gone"
    ranks.close()


def test_rank_0_does_not_wait_for_what_another_rank_dropped() -> None:
    inner = MemoryStore()
    place = Gate(inner)
    files = parts.files(state(1, rank=1, workers=2), rank=1, workers=2)
    other_size = sum(len(parts.encode(arrays)) for arrays in files.values())
    ranks = Ranks(place, policy=KeepLast(9))
    ranks.savers[1].close()
    ranks.savers[1] = Saver(place, rank=1, workers=2, attempt=1, spool_bytes=2 * other_size,
                            backoff=Backoff(0.0005, 0.002), on_event=ranks._listener(1))  # fmt: skip
    ranks.hand_over(1)
    while len([change for change in place.changes if "chains-0001" in change]) < 2:
        place.refused.wait(0.001)
    ranks.hand_over(2, 3, 4, 4)
    place.open = True
    ranks.wait()
    ranks.close()
    assert [fields["step"] for fields in ranks.told("checkpoint_dropped", rank=1)] == [2, 3]
    failed = ranks.told("checkpoint_failed")
    assert [fields["step"] for fields in failed] == [2, 3]
    assert "rank 1 could not write its parts: dropped for a newer one" in failed[0]["reason"]
    assert committed_steps(inner) == [1, 4]


def test_one_that_is_larger_than_the_spool_is_sent_from_memory(tmp_path: Path) -> None:
    place = MemoryStore()
    ranks = Ranks(place, workers=1, spool_bytes=SIZE - 1, spool=tmp_path)
    assert ranks.save(1, 2) == 2
    assert list(tmp_path.glob("*")) == [], "no file was written"
    ranks.close()
    manifest = newest(place).manifest
    assert manifest is not None
    assert is_whole(place, manifest)


def test_memory_holds_one_that_is_too_large_and_the_newest_at_that() -> None:
    inner, place, ranks = outage(room=0)  # 1 is being sent, from memory
    ranks.hand_over(2, 3)
    place.open = True
    ranks.wait()
    assert ranks.save(4) == 4
    ranks.close()
    assert [fields["step"] for fields in ranks.told("checkpoint_failed")] == [2, 3]
    assert "another one is being sent from memory" in ranks.told("checkpoint_failed")[0]["reason"]
    assert committed_steps(inner) == [1, 4]


def test_one_in_memory_that_waits_gives_way_to_a_newer() -> None:
    inner, place, ranks = outage(room=1)  # 1 is being sent, from the spool; no room for others
    ranks.hand_over(2, 3, 4)
    ranks.hand_over(4)  # returns when 4 is placed
    place.open = True
    ranks.wait()
    ranks.close()
    assert committed_steps(inner) == [1, 4]
    assert [fields["step"] for fields in ranks.told("checkpoint_dropped")] == [2, 3]


# --- a disk that does not take it ----------------------------------------------------------------------


class Disk:
    """Takes so many bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room, self._write = room, parts.write
        monkeypatch.setattr(parts, "write", self.write)

    def write(self, path: Path, arrays: dict[str, np.ndarray]) -> tuple[int, str]:
        held = sum(file.stat().st_size for file in path.parent.iterdir())
        size, digest = self._write(path, arrays)
        if held + size > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return size, digest


def test_a_full_disk_takes_the_newest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Disk(monkeypatch, 2 * FILE_SIZE)
    inner, place, ranks = outage(spool=tmp_path)
    ranks.hand_over(2, 3, 4)
    ranks.hand_over(4)
    assert sum(path.stat().st_size for path in tmp_path.glob("lehr-spool-*/*")) == 2 * FILE_SIZE
    place.open = True
    ranks.wait()
    ranks.close()
    assert committed_steps(inner) == [1, 4]
    assert "the spool cannot be written: [Errno 28]" in ranks.told("checkpoint_dropped")[0]["reason"]


def test_a_disk_that_fails_costs_none_of_those_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    inner, place, ranks = outage()
    ranks.hand_over(2, 2)
    write = parts.write

    def failing(path: Path, arrays: dict[str, np.ndarray]) -> tuple[int, str]:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(parts, "write", failing)
    ranks.hand_over(3, 3)  # in memory
    monkeypatch.setattr(parts, "write", write)
    ranks.hand_over(4)
    place.open = True
    ranks.wait()
    ranks.close()
    assert committed_steps(inner) == [1, 2, 3, 4]


def test_what_was_dropped_for_one_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    Disk(monkeypatch, 0)
    inner, place, ranks = outage()  # 1 is being sent, from memory
    monkeypatch.undo()
    ranks.hand_over(2, 2)
    Disk(monkeypatch, 0)
    ranks.hand_over(3)
    while not ranks.told("checkpoint_failed"):
        time.sleep(0.001)
    place.open = True
    ranks.wait()
    ranks.close()
    assert [fields["step"] for fields in ranks.told("checkpoint_dropped")] == [2]
    assert [fields["step"] for fields in ranks.told("checkpoint_failed")] == [3]
    assert committed_steps(inner) == [1]


def test_a_disk_that_takes_nothing_is_no_reason_not_to_save(monkeypatch: pytest.MonkeyPatch) -> None:
    Disk(monkeypatch, 0)
    place = MemoryStore()
    ranks = Ranks(place, workers=1)
    assert ranks.save(1, 2) == 2
    manifest = newest(place).manifest
    assert manifest is not None
    assert is_whole(place, manifest)
    ranks.close()


def test_a_folder_that_cannot_be_made_is_no_reason_not_to_save(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    ranks = Ranks(MemoryStore(), workers=1, spool=tmp_path / "file" / "below")
    assert ranks.save(1) == 1
    ranks.close()


def test_a_file_that_vanished_from_the_spool_fails_that_save_alone(tmp_path: Path) -> None:
    inner, place, ranks = outage(spool=tmp_path)
    for path in tmp_path.glob("lehr-spool-*/0*"):
        path.unlink()
    place.open = True
    assert ranks.savers[0].wait(30) is None
    assert ranks.save(2) == 2
    [failed] = ranks.told("checkpoint_failed")
    assert failed["step"] == 1
    assert committed_steps(inner) == [2]
    ranks.close()


def test_a_full_disk_is_an_os_error(tmp_path: Path) -> None:
    """The library that writes the file has errors of its own."""
    with pytest.raises(OSError, match="No such file") as caught:
        parts.write(tmp_path / "absent" / "file", {"a": np.zeros(1)})
    assert caught.value.errno == errno.ENOENT


# --- the files -----------------------------------------------------------------------------------------


def test_a_file_of_the_spool_is_what_would_be_encoded(tmp_path: Path) -> None:
    arrays = state(1).weights
    size, digest = parts.write(tmp_path / "file", arrays)
    data = (tmp_path / "file").read_bytes()
    assert data == parts.encode(arrays)
    assert (size, digest) == (len(data), parts.sha256(data))
    assert same(parts.decode(data), arrays)


def test_the_room_counts_what_is_there(tmp_path: Path) -> None:
    spool = Spool(2 * FILE_SIZE, tmp_path)
    arrays = parts.files(state(1), rank=0, workers=1)
    first, _ = spool.write(state(1), arrays), spool.write(state(1), arrays)
    assert spool.used_bytes == 2 * FILE_SIZE
    assert not spool.fits(1)
    spool.free(first)
    assert spool.used_bytes == FILE_SIZE
    with pytest.raises(TypeError):
        spool.write(state(1), {"a": {"x": np.zeros(3)}, "b": {"x": np.array(["a"])}})
    assert spool.used_bytes == FILE_SIZE
    spool.close()
    assert list(tmp_path.iterdir()) == []


VICTIM = """
import os, signal, sys
from pathlib import Path
import numpy as np
from lehr.checkpoint.parts import State
from lehr.checkpoint.spool import Spool
spool = Spool(1 << 20, Path(sys.argv[1]))
arrays = {"a": {"a": np.zeros(9)}}
spool.write(State(arrays["a"], {}, {}, 0, 0), arrays)
print(sorted(os.listdir(sys.argv[1])), flush=True)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


def left_by(folder: Path, end: str) -> list[Path]:
    done = subprocess.run([sys.executable, "-c", VICTIM, str(folder), end], capture_output=True, timeout=60)
    assert b"lehr-spool-" in done.stdout, done.stderr
    assert done.returncode == (-signal.SIGKILL if end == "killed" else 0)
    return list(folder.iterdir())


def test_what_a_killed_process_left_goes_with_the_next(tmp_path: Path) -> None:
    arrays = parts.files(state(1), rank=0, workers=1)
    living = Spool(1 << 20, tmp_path)
    living.write(state(1), arrays)
    [mine] = tmp_path.iterdir()
    left = left_by(tmp_path, "killed")
    assert len(left) == 2
    (tmp_path / "lehr-spool-made-just-now").mkdir()
    another = Spool(1 << 20, tmp_path)
    another.write(state(1), arrays)
    there = set(tmp_path.iterdir())
    assert not set(left) - {mine} & there
    assert {mine, tmp_path / "lehr-spool-made-just-now"} < there
    assert len(there) == 3
    living.close()
    another.close()


def test_the_end_of_a_process_removes_its_spool(tmp_path: Path) -> None:
    assert left_by(tmp_path, "ended") == []


# --- in order ------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    fails=st.lists(st.booleans(), max_size=60),
    steps=st.integers(1, 6),
    room=st.integers(0, 7),
    workers=st.sampled_from([1, 2]),
)
def test_saves_are_committed_in_order(fails: list[bool], steps: int, room: int, workers: int) -> None:
    """However the store fails and however little room there is: the newest is among them, each is told."""
    inner = MemoryStore()
    place = FailingStore(inner, lambda number: number <= len(fails) and fails[number - 1])
    ranks = Ranks(place, workers=workers, policy=KeepLast(9), spool_bytes=room * FILE_SIZE)
    ranks.hand_over(*range(1, steps + 1))
    ranks.wait()
    told = [fields["step"] for fields in ranks.told("checkpoint")]
    lost = [f["step"] for name in ("checkpoint_dropped", "checkpoint_failed") for f in ranks.told(name)]
    ranks.close()
    assert told == sorted(told) == committed_steps(inner)
    assert sorted(told + lost) == list(range(1, steps + 1))
    if room >= 2:
        assert steps in told
    for name in committed_names(inner.list("checkpoints")):
        manifest = newest(inner, step=int(name[5:13])).manifest
        assert manifest is not None
        assert is_whole(inner, manifest)


def test_a_state_without_arrays_is_a_checkpoint_too() -> None:
    place = MemoryStore()
    saver = Saver(place, rank=0, workers=1, attempt=1, spool_bytes=0)
    saver.save(1, State({}, {}, {}, 0, 0, {"step": 1}), {})
    assert saver.wait(30) == 1
    saver.close()
