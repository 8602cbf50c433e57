"""Every store against the one suite, the fakes too."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from contract.store_suite import StoreSuite
from fakes import Below, FailingStore, MemoryStore
from lehr import journal
from lehr.errors import Superseded
from lehr.fence import Fence, Fenced
from lehr.store import Store, connect


class Bare(MemoryFileSystem):
    """As little as an object store has: no folders, no renames, no files that grow, no open files at all."""

    protocol = "bare"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("bare://")))

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("an object store cannot do this")

    mkdir = makedirs = rmdir = mv = cp_file = touch = _refuse

    def open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        assert mode in ("wb", "xb") and "data" in kwargs, "only whole objects are put"  # noqa: PT018
        return super().open(path, mode=mode, **kwargs)


@pytest.fixture
def url_of_memory() -> Iterator[str]:
    root = f"test-{uuid.uuid4().hex}"
    yield f"memory://{root}"
    files = MemoryFileSystem.store
    for path in [path for path in files if path.startswith(f"/{root}/")]:
        del files[path]


class TestFolder(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return connect(str(tmp_path / "not yet there"))


class TestFileUrl(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return connect(f"file://{tmp_path}")


class TestMemoryUrl(StoreSuite):
    @pytest.fixture
    def store(self, url_of_memory: str) -> Store:
        return connect(url_of_memory)


class TestObjectStore(StoreSuite):
    """Nothing is asked of a filesystem that an object store cannot do."""

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        fsspec.register_implementation("bare", Bare, clobber=True)
        Bare.store.clear()
        yield connect("bare://bucket/prefix")
        Bare.store.clear()


class TestBelow(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return connect(str(tmp_path)).below("further").below("in")


class TestFenced(StoreSuite):
    """As long as there is no later attempt."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return Fenced(connect(str(tmp_path)), Fence(MemoryStore(), 1))

    def test_a_later_attempt_ends_all_changes(self, tmp_path: Path) -> None:
        run, inner = MemoryStore(), connect(str(tmp_path))
        inner.write("k", b"1")
        fenced = Fenced(inner, Fence(run, journal.claim_attempt(run), fresh_s=0.0))
        fenced.write("k", b"2")
        journal.claim_attempt(run)
        changes = [
            lambda: fenced.write("k", b"3"), lambda: fenced.create("new", b"3"),
            lambda: fenced.append("k", b"3"), lambda: fenced.delete("k"),
            lambda: fenced.put("k", tmp_path / "k"), lambda: fenced.below("in").write("k", b"3"),
        ]  # fmt: skip
        for change in changes:
            with pytest.raises(Superseded, match="attempt 1 is over"):
                change()
        assert fenced.list() == ["k"]
        assert fenced.read("k") == b"2"


class TestMemoryStore(StoreSuite):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()


class TestFakeBelow(StoreSuite):
    @pytest.fixture
    def store(self) -> Store:
        return Below(MemoryStore(), "in")


class TestFailingStoreThatDoesNot(StoreSuite):
    @pytest.fixture
    def store(self) -> Store:
        return FailingStore(MemoryStore(), lambda number: False)
