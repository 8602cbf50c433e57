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
