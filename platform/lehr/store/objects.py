"""A store on any fsspec filesystem: what all of them have in common, and no more.

Source for what fsspec promises: https://filesystem-spec.readthedocs.io.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lehr.errors import KeyMissing, StorageError
from lehr.store.failures import failure
from lehr.store.store import Names, Store

TEMPORARY = ".lehr-write-"  # begins the names of files that a folder's writers are at; never keys

_FORKED = "a fork cannot use it, its event loop stayed behind; spawn processes, or connect in each"


def is_temporary(key: str) -> bool:
    """Whether it is a file that somebody writes at the moment, or was when he was killed."""
    return key.rpartition("/")[2].startswith(TEMPORARY)


class Objects:
    """A store on any fsspec filesystem; made by `connect`.

    Args:
        filesystem: the filesystem.
        root: what it calls the folder that keys are below, without a slash at its end.
        url: what the user calls it.
    """

    def __init__(self, filesystem: Any, root: str, url: str) -> None:
        self._filesystem, self._root, self._url = filesystem, root, url
        self._pid = os.getpid()

    @property
    def url(self) -> str:
        return self._url

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        with self._told("read", key) as path:
            return bytes(self._filesystem.cat_file(path, start=start, end=end))

    def write(self, key: str, data: bytes) -> None:
        with self._told("write", key) as path:
            self._filesystem.pipe_file(path, data)

    def put(self, key: str, file: Path) -> None:
        if not self._filesystem.async_impl:
            self.write(key, file.read_bytes())
            return
        with self._told("write", key) as path:
            self._filesystem.put_file(str(file), path)

    def create(self, key: str, data: bytes) -> bool:
        with _alone(self._path(key)):
            return self._create(key, data)

    def _create(self, key: str, data: bytes) -> bool:
        try:
            self._put_new(key, data)
        except StorageError as error:
            # Some filesystems say the same of a key below a key.
            if isinstance(error.__cause__, FileExistsError) and self.size(key) is not None:
                return False
            raise
        return True

    def _put_new(self, key: str, data: bytes) -> None:
        with self._told("create", key) as path:
            self._filesystem.pipe_file(path, data, mode="create")

    def append(self, key: str, data: bytes) -> None:
        # Objects cannot grow: read and rewrite.
        with _alone(self._path(key)):
            before = self.read(key) if self.size(key) is not None else b""
            self.write(key, before + data)

    def list(self, prefix: str = "") -> Names:
        with self._told("list", prefix) as path:
            found = self._files(path)
        keys = (path[len(self._root) :].lstrip("/") for path in found)
        wanted = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        return sorted(key for key in keys if key.startswith(wanted) and not is_temporary(key))

    def folders(self, prefix: str = "") -> Names:
        try:
            with self._told("list", prefix) as path:
                return sorted(self._folders(path))
        except KeyMissing:
            return []

    def size(self, key: str) -> int | None:
        try:
            with self._told("look at", key) as path:
                entry = self._filesystem.info(path)
        except KeyMissing:
            return None
        return int(entry["size"]) if entry["type"] == "file" else None

    def delete(self, key: str) -> None:
        with contextlib.suppress(KeyMissing), self._told("delete", key) as path:
            self._filesystem.rm_file(path)

    def below(self, prefix: str) -> Store:
        prefix = prefix.strip("/")
        return type(self)(self._filesystem, self._path(prefix), f"{self._url.rstrip('/')}/{prefix}")

    def local_path(self, key: str) -> Path | None:
        return None

    def _files(self, folder: str) -> Names:
        found: Names = self._filesystem.find(folder or "/")
        return found

    def _folders(self, folder: str) -> Names:
        found = self._filesystem.ls(folder or "/", detail=True)
        below = [entry["name"].rstrip("/") for entry in found if entry["type"] == "directory"]
        return [path.rpartition("/")[2] for path in below]

    def _path(self, key: str) -> str:
        if any(part in ("", ".", "..") for part in key.split("/")):
            raise ValueError(f"{key!r} is no key: a relative path without empty, '.' or '..' parts")
        return f"{self._root}/{key}"

    @contextlib.contextmanager
    def _told(self, verb: str, key: str) -> Iterator[str]:
        """The path of `key` (of a folder, when listing) to do something with; says it if that fails."""
        if self._pid != os.getpid() and self._filesystem.async_impl:
            raise RuntimeError(f"{self._url} was connected in process {self._pid}: {_FORKED}")
        path = self._path(key) if verb != "list" else f"{self._root}/{key.strip('/')}".rstrip("/")
        try:
            yield path
        except StorageError:
            raise
        except Exception as error:  # cloud libraries have trees of their own, not all below OSError
            raise failure(f"{self._url}/{key}", verb, error, self._filesystem.storage_options) from error


_locks: dict[str, threading.Lock] = {}


def _alone(path: str) -> threading.Lock:
    """A lock for what a filesystem does in two calls, among the threads of this process."""
    return _locks.setdefault(path, threading.Lock())
