"""Text that grows: nothing lost, nothing doubled, on files and on objects, whatever fails."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from fakes import FailingStore, MemoryStore
from lehr.errors import StorageError
from lehr.store import connect, growing
from lehr.store.growing import Growing


def insist(text: Growing, data: bytes) -> None:
    for _ in range(100):
        try:
            return text.append(data)
        except StorageError:
            pass
    raise AssertionError("never appended")


@settings(deadline=None)
@given(
    pieces=some.lists(some.binary(max_size=40), min_size=1, max_size=12),
    limits=some.lists(some.integers(1, 30), min_size=1, max_size=4),
    failing=some.sets(some.integers(1, 30)),
    after=some.booleans(),
)
def test_whatever_fails_all_is_there_once(
    pieces: list[bytes], limits: list[int], failing: set[int], after: bool
) -> None:
    """Each writer has a limit of its own, as if the process had been another one's."""
    memory = MemoryStore()
    store = FailingStore(memory, lambda number: number in failing, after=after)
    said = b""
    for turn, limit in enumerate(limits):
        text = Growing(store, "logs/0", limit)
        for piece in pieces[turn :: len(limits)]:
            insist(text, piece)
            said += piece
            assert growing.read(memory, "logs/0") == said
    assert growing.size(memory, "logs/0") == len(said)
    for start in range(len(said) + 2):
        assert growing.read(memory, "logs/0", start) == said[start:]
    assert growing.keys(memory, "logs/0") == sorted(memory.objects)
    assert all(memory.size(key) <= max(limits) for key in memory.objects)


def test_segments_are_filled_one_after_the_other() -> None:
    store = MemoryStore()
    text = Growing(store, "log", limit=4)
    text.append(b"abc")
    text.append(b"defghijkl")
    text.append(b"m")
    assert store.objects == {"log": b"abcd", "log.0001": b"efgh", "log.0002": b"ijkl", "log.0003": b"m"}


def test_what_was_long_ago_is_not_written_again() -> None:
    store = FailingStore(MemoryStore(), lambda number: False)
    text = Growing(store, "log", limit=4)
    for _ in range(6):
        text.append(b"ab")
    assert store.changes == ["write log"] * 2 + ["write log.0001"] * 2 + ["write log.0002"] * 2


def test_nothing_is_a_text_too() -> None:
    store = MemoryStore()
    assert growing.read(store, "log") == b""
    assert growing.size(store, "log") is None
    assert growing.keys(store, "log") == []
    Growing(store, "log").append(b"")
    assert growing.size(store, "log") == 0
    assert growing.keys(store, "log") == ["log"]


def test_on_a_folder_it_is_one_file(tmp_path: Path) -> None:
    store = connect(str(tmp_path))
    Growing(store, "logs/0", limit=2).append(b"one\n")
    Growing(store, "logs/0", limit=2).append(b"two\n")
    assert (tmp_path / "logs/0").read_bytes() == b"one\ntwo\n"
    assert growing.keys(store, "logs/0") == ["logs/0"]
    assert growing.size(store, "logs/0") == 8
    assert growing.read(store, "logs/0", 5) == b"wo\n"
    assert growing.read(store, "none") == b""
    assert growing.size(store, "none") is None


@pytest.mark.parametrize("after", [False, True])
def test_on_a_folder_a_failed_append_is_not_doubled(tmp_path: Path, after: bool) -> None:
    class Reachable(FailingStore):
        def local_path(self, key: str) -> Path | None:
            return self.store.local_path(key)

    store = Reachable(connect(str(tmp_path)), lambda number: number in (1, 3, 4), after=after)
    text = Growing(store, "log")
    for line in (b"one\n", b"two\n", b"two\n"):
        insist(text, line)
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\ntwo\n"


def test_on_a_folder_a_failed_fsync_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = Growing(connect(str(tmp_path)), "log")
    text.append(b"one\n")

    def full(descriptor: int) -> None:
        raise OSError(errno.EIO, "lost")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError):
            text.append(b"two\n")
    text.append(b"two\n")
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"
