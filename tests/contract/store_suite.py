"""What every store keeps to. A test class inherits `StoreSuite` and brings the fixture `store`, empty."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lehr.errors import KeyMissing
from lehr.store import Store

BYTES = bytes(range(256)) * 40
LARGE = random.Random(0).randbytes(33 << 20)  # of several parts, where a store has parts


class StoreSuite:
    """The contract of platform/README.md, section 10, `store`."""

    def test_what_is_written_is_read(self, store: Store) -> None:
        store.write("a/b.bin", BYTES)
        assert store.read("a/b.bin") == BYTES
        assert store.size("a/b.bin") == len(BYTES)

    def test_nothing_is_a_value(self, store: Store) -> None:
        store.write("empty", b"")
        assert store.read("empty") == b""
        assert store.size("empty") == 0
        assert store.list() == ["empty"]

    def test_a_second_write_replaces_the_whole(self, store: Store) -> None:
        store.write("k", BYTES)
        store.write("k", b"short")
        assert store.read("k") == b"short"
        assert store.size("k") == 5

    def test_a_file_is_put_whole(self, store: Store, tmp_path_factory: pytest.TempPathFactory) -> None:
        file = tmp_path_factory.mktemp("parts") / "part"
        for data in (BYTES, b"", BYTES * 1000):
            file.write_bytes(data)
            store.put("a/part", file)
            assert store.size("a/part") == len(data)
            assert store.read("a/part") == data
        assert store.list() == ["a/part"]
        assert file.read_bytes() == BYTES * 1000  # it is the caller's, and stays

    def test_what_is_large_is_the_same(self, store: Store, tmp_path_factory: pytest.TempPathFactory) -> None:
        file, data = tmp_path_factory.mktemp("parts") / "part", LARGE[:-5]
        file.write_bytes(data)
        store.write("a/written", LARGE)
        store.put("a/put", file)
        assert store.read("a/written") == LARGE
        assert store.read("a/put") == data
        assert store.size("a/put") == len(data)
        for start, end in ((5, None), (7 << 20, 25 << 20), (len(data) - 9, len(data) + 9)):
            assert store.read("a/put", start, end) == data[start:end]

    def test_what_is_read_is_bytes(self, store: Store) -> None:
        store.write("k", LARGE)
        assert type(store.read("k")) is type(store.read("k", 1, 2)) is bytes

    @pytest.mark.parametrize(
        ("start", "end"),
        [(0, 3), (3, None), (None, 4), (10, 20), (5, 5), (len(BYTES) - 2, len(BYTES) + 9), (10**6, None)],
    )
    def test_ranges_are_those_of_bytes(self, store: Store, start: int | None, end: int | None) -> None:
        store.write("k", BYTES)
        assert store.read("k", start, end) == BYTES[start:end]

    @pytest.mark.parametrize("key", ["missing", "deep/down/missing", "there/below"])
    def test_a_missing_key_is_told(self, store: Store, key: str) -> None:
        store.write("there", b"1")
        with pytest.raises(KeyMissing, match=key):
            store.read(key)
        with pytest.raises(KeyMissing):
            store.read(key, 0, 1)
        assert store.size(key) is None

    def test_a_folder_is_no_key(self, store: Store) -> None:
        store.write("a/b/c", b"1")
        for key in ("a", "a/b"):
            assert store.size(key) is None
            with pytest.raises(KeyMissing):
                store.read(key)

    def test_create_takes_only_what_is_free(self, store: Store) -> None:
        assert store.create("a/claim", b"first") is True
        assert store.create("a/claim", b"second") is False
        assert store.read("a/claim") == b"first"
        store.delete("a/claim")
        assert store.create("a/claim", b"third") is True

    def test_create_knows_empty_values(self, store: Store) -> None:
        assert store.create("k", b"") is True
        assert store.create("k", b"") is False

    def test_of_many_who_create_one_wins(self, store: Store) -> None:
        together = threading.Barrier(8)

        def claim(name: int) -> bool:
            together.wait()
            return store.create("claims/1", str(name).encode())

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(claim, range(8)))
        assert won.count(True) == 1
        assert store.read("claims/1") == str(won.index(True)).encode()

    def test_append_adds_to_the_end(self, store: Store) -> None:
        store.append("log/a", b"one\n")
        store.append("log/a", b"two\n")
        store.append("log/a", b"")
        assert store.read("log/a") == b"one\ntwo\n"
        assert store.size("log/a") == 8

    def test_append_goes_on_from_what_was_written(self, store: Store) -> None:
        store.create("k", b"")
        store.append("k", b"1")
        store.write("k", b"2")
        store.append("k", b"3")
        assert store.read("k") == b"23"

    def test_threads_may_append_to_keys_of_their_own(self, store: Store) -> None:
        def fill(name: int) -> None:
            for i in range(10):
                store.append(f"logs/{name}", f"{i};".encode())

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(fill, range(4)))
        assert {store.read(f"logs/{name}") for name in range(4)} == {b"0;1;2;3;4;5;6;7;8;9;"}

    def test_list_is_sorted_and_deep(self, store: Store) -> None:
        for key in ("b/z", "a", "b/c/d/e", "b.x", "c/1", "b/c/d0"):
            store.write(key, b"1")
        assert store.list() == ["a", "b.x", "b/c/d/e", "b/c/d0", "b/z", "c/1"]

    def test_a_prefix_is_a_folder(self, store: Store) -> None:
        for key in ("a/x", "ab/x", "a/b/x", "a.x"):
            store.write(key, b"1")
        assert store.list("a") == store.list("a/") == ["a/b/x", "a/x"]
        assert store.list("a/b") == ["a/b/x"]
        assert store.list("a/x") == []
        assert store.list("none") == store.list("none/at/all") == []

    def test_folders_are_those_right_below(self, store: Store) -> None:
        for key in ("top", "b/1", "a/1", "a/deep/er/1", "a/other/1"):
            store.write(key, b"1")
        assert store.folders() == ["a", "b"]
        assert store.folders("a") == store.folders("a/") == ["deep", "other"]
        assert store.folders("b") == store.folders("none") == []

    def test_an_empty_store_has_nothing(self, store: Store) -> None:
        assert store.list() == []
        assert store.folders() == []

    def test_delete_removes_and_forgives(self, store: Store) -> None:
        store.write("a/b/c", b"1")
        store.write("a/d", b"1")
        store.delete("a/b/c")
        store.delete("a/b/c")
        store.delete("never/was")
        assert store.list() == ["a/d"]
        assert store.size("a/b/c") is None
        store.write("a/b/c", b"2")
        assert store.read("a/b/c") == b"2"

    def test_below_is_the_same_store_further_in(self, store: Store) -> None:
        inner = store.below("runs/one/")
        inner.write("k", b"1")
        assert store.read("runs/one/k") == b"1"
        store.write("runs/one/deep/k", b"2")
        store.write("runs/two/k", b"3")
        assert inner.list() == ["deep/k", "k"]
        assert inner.folders() == ["deep"]
        assert inner.below("deep").read("k") == b"2"
        assert inner.url == f"{store.url}/runs/one"
        inner.delete("k")
        assert store.list() == ["runs/one/deep/k", "runs/two/k"]

    def test_readers_see_the_old_or_the_new_whole(self, store: Store) -> None:
        values = [bytes([i]) * 200_000 for i in range(4)]
        store.write("k", values[0])
        stop = threading.Event()
        seen: set[bytes] = set()

        def look() -> None:
            while not stop.is_set():
                seen.add(store.read("k"))

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            for _ in range(5):
                for value in values:
                    store.write("k", value)
        finally:
            stop.set()
            watcher.join()
        assert seen <= set(values)

    def test_names_are_taken_as_they_are(self, store: Store) -> None:
        names = ["a b", "ünïcode", "star*", "q[1]", "per%20cent", "plus+and&", ".hidden", "step-00001000.a1"]
        for name in names:
            store.write(f"{name}/k", name.encode())
        assert store.list() == sorted(f"{name}/k" for name in names)
        assert all(store.read(f"{name}/k") == name.encode() for name in names)

    def test_local_path_is_the_file_or_none(self, store: Store) -> None:
        store.write("a/b", b"1")
        path = store.local_path("a/b")
        assert path is None or path.read_bytes() == b"1"
