"""Where a store leads to, what is said when it leads nowhere, and what only folders have."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from pathlib import Path

import pytest

from lehr.errors import StorageDenied, StorageError, UserError
from lehr.store import Store, connect, probe
from lehr.store.folder import ABANDONED_S
from lehr.store.objects import TEMPORARY


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_relative_folder_is_below_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = connect("runs")
    monkeypatch.chdir("/")
    store.write("a/k", b"1")
    assert (tmp_path / "runs/a/k").read_bytes() == b"1"
    assert store.url == str(tmp_path / "runs")
    assert connect(store.url).read("a/k") == b"1"
    assert store.local_path("a/k") == tmp_path / "runs/a/k"


def test_home_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    connect("~/runs").write("k", b"1")
    assert (tmp_path / "runs/k").exists()


def test_a_file_url_is_the_same_folder(tmp_path: Path) -> None:
    connect(f"file://{tmp_path}/").write("k", b"1")
    assert connect(str(tmp_path)).read("k") == b"1"
    assert connect(f"file://{tmp_path}/").url == f"file://{tmp_path}"


def test_connecting_writes_nothing(tmp_path: Path) -> None:
    connect(str(tmp_path / "new")).list()
    assert files(tmp_path) == []


def test_connecting_to_an_object_store_asks_nothing_of_the_network() -> None:
    store = connect("s3://bucket/prefix", {"endpoint_url": "http://127.0.0.1:1", "key": "k", "secret": "s"})
    assert store.below("run").url == "s3://bucket/prefix/run"
    assert store.local_path("k") is None


def test_an_unknown_scheme_is_told() -> None:
    with pytest.raises(UserError, match=r"foo://x: Protocol not known: foo\n  accepted: .*s3://bucket"):
        connect("foo://x")


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"gs://b/p: .*gcsfs.*\n  do: pip install 'lehr\[gcs\]'"):
        connect("gs://b/p")


@pytest.mark.parametrize("key", ["", "/a", "a//b", "a/", "../a", "a/./b", "a/../../b"])
def test_what_is_no_key_is_our_own_mistake(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="is no key"):
        connect(str(tmp_path)).write(key, b"1")
    assert files(tmp_path) == []


def test_probing_leaves_nothing(tmp_path: Path) -> None:
    probe(connect(str(tmp_path / "new")))
    assert files(tmp_path) == ["new"]


def test_probing_tells_why_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file: cannot be written: (.|\n)*do: name another with --storage"):
        probe(connect(str(tmp_path / "file")))


def test_a_key_below_a_key_cannot_be_written(tmp_path: Path) -> None:
    store = connect(str(tmp_path))
    store.write("a", b"1")
    for change in (store.write, store.create, store.append):
        with pytest.raises(StorageError, match="could not"):
            change("a/b", b"2")
    store.delete("a/b")
    assert store.read("a") == b"1"


def test_a_write_that_fails_leaves_the_old_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = connect(str(tmp_path))
    store.write("a/k", b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for change in (store.write, store.create):
        with pytest.raises(StorageError, match=r"a/.: could not .* No space left"):
            change("a/k" if change == store.write else "a/n", b"new")
    assert files(tmp_path) == ["a", "a/k"]
    assert store.read("a/k") == b"old"


def test_a_put_that_fails_leaves_the_old_and_says_that_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = connect(str(tmp_path / "store"))
    store.write("k", b"old")
    (tmp_path / "file").write_bytes(b"new")

    def full(source: Path, target: str) -> None:
        Path(target).write_bytes(b"ne")
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(
        StorageError, match=r"k: could not write it: OSError: .*quota exceeded \(it is full\)"
    ):
        store.put("k", tmp_path / "file")
    assert files(tmp_path / "store") == ["k"]
    assert store.read("k") == b"old"
    with pytest.raises(UserError, match=r"cannot be written: it is full: (.|\n)*  do: make room"):
        probe(Full(store))


class Full:
    """A folder on a disk that has no room left."""

    def __init__(self, store: Store) -> None:
        self.url = store.url

    def write(self, key: str, data: bytes) -> None:
        raise StorageError("no") from OSError(errno.ENOSPC, "No space left on device")


def test_a_file_that_is_not_there_cannot_be_put(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        connect(str(tmp_path)).put("k", tmp_path / "none")
    assert files(tmp_path) == []


def test_a_put_file_is_durable_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"new")
    synced, sync = [], os.fsync

    def watch(descriptor: int) -> None:
        place = os.readlink(f"/proc/self/fd/{descriptor}")
        synced.append((os.path.basename(place), os.path.exists(tmp_path / "s/k")))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    connect(str(tmp_path / "s")).put("k", tmp_path / "file")
    (first, named), (second, _) = synced
    assert first.startswith(TEMPORARY)
    assert not named
    assert second == "s"


def test_what_may_not_be_done_is_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "makedirs", refuse)
    with pytest.raises(StorageDenied, match="could not write it: PermissionError"):
        connect(str(tmp_path)).write("k", b"1")
    with pytest.raises(UserError, match=r"there is no permission: (.|\n)*  do: let these credentials"):
        probe(connect(str(tmp_path)))


def test_an_append_that_fails_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = connect(str(tmp_path))
    store.append("k", b"one\n")
    write = os.write

    def nearly_full(descriptor: int, data: bytes) -> int:
        if len(data) > 3:
            return write(descriptor, data[:-3])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", nearly_full)
        with pytest.raises(StorageError, match="No space left"):
            store.append("k", b"two two two\n")
    assert store.read("k") == b"one\n"
    store.append("k", b"three\n")
    assert store.read("k") == b"one\nthree\n"


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP])
def test_create_needs_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*args: str) -> None:
        raise OSError(number, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    store = connect(str(tmp_path))
    assert store.create("k", b"1") is True
    assert store.create("k", b"2") is False
    assert store.read("k") == b"1"
    assert files(tmp_path) == ["k"]


def test_what_cannot_be_listed_is_no_emptiness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = connect(str(tmp_path))
    store.write("a/b/k", b"1")
    look = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("/b"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return look(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for ask in (lambda: store.list(), lambda: store.list("a/b"), lambda: store.folders("a/b")):
        with pytest.raises(StorageError, match="could not list it: PermissionError"):
            ask()


def test_a_linked_folder_is_a_folder(tmp_path: Path) -> None:
    connect(str(tmp_path / "elsewhere")).write("k", b"1")
    store = connect(str(tmp_path / "runs"))
    store.write("here/k", b"1")
    (tmp_path / "runs/there").symlink_to(tmp_path / "elsewhere")
    assert store.folders() == ["here", "there"]
    assert store.below("there").list() == ["k"]


def test_folders_without_keys_go(tmp_path: Path) -> None:
    store = connect(str(tmp_path / "root"))
    store.write("a/b/c/k", b"1")
    store.write("a/k", b"1")
    store.delete("a/b/c/k")
    assert files(tmp_path) == ["root", "root/a", "root/a/k"]
    store.delete("a/k")
    assert files(tmp_path) == ["root"]


def test_what_a_killed_writer_left_is_no_key_and_goes_with_the_folder(tmp_path: Path) -> None:
    store = connect(str(tmp_path))
    store.write("a/k", b"1")
    rest = tmp_path / "a" / f"{TEMPORARY}left"
    rest.write_bytes(b"half")
    long_ago = time.time() - 2 * ABANDONED_S
    os.utime(rest, (long_ago, long_ago))
    assert store.list() == ["a/k"]
    store.delete("a/never")
    assert rest.exists(), "a folder with keys is left alone"
    store.delete("a/k")
    assert files(tmp_path) == []


def test_what_a_living_writer_writes_is_left_alone(tmp_path: Path) -> None:
    store = connect(str(tmp_path))
    store.write("a/k", b"1")
    (tmp_path / "a" / f"{TEMPORARY}now").write_bytes(b"half")
    store.delete("a/k")
    assert len(files(tmp_path)) == 2


def test_a_writer_outlives_the_tidying_of_its_folder(tmp_path: Path) -> None:
    store = connect(str(tmp_path))
    stop = threading.Event()

    def tidy() -> None:
        while not stop.is_set():
            store.delete("a/b/other")

    tidier = threading.Thread(target=tidy)
    tidier.start()
    try:
        for i in range(100):
            store.write(f"a/b/{i}", b"1")
            assert store.create("a/b/new", b"1")
            store.append("a/b/log", b"1")
            for key in ("a/b/new", "a/b/log", f"a/b/{i}"):
                assert store.read(key) == b"1"
                store.delete(key)
    finally:
        stop.set()
        tidier.join()


def test_a_replaced_file_keeps_the_users_permissions_mask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        connect(str(tmp_path)).write("k", b"1")
    finally:
        os.umask(before)
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o640
