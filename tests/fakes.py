"""Stand-ins that keep the real contracts: every store here passes `contract/store_suite.py`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from lehr.errors import KeyMissing, StorageError
from lehr.store import Store

Names = list[str]


class MemoryStore:
    """A store in a dictionary of its own; threads may share it."""

    def __init__(self, url: str = "fake://store") -> None:
        self.url = url
        self.objects: dict[str, bytes] = {}
        self._lock = threading.RLock()

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        try:
            return self.objects[key][start:end]
        except KeyError:
            raise KeyMissing(f"{self.url}/{key}: no such key") from None

    def write(self, key: str, data: bytes) -> None:
        with self._lock:
            self.objects[key] = bytes(data)

    def put(self, key: str, file: Path) -> None:
        self.write(key, file.read_bytes())

    def create(self, key: str, data: bytes) -> bool:
        with self._lock:
            if key in self.objects:
                return False
            self.objects[key] = bytes(data)
            return True

    def append(self, key: str, data: bytes) -> None:
        with self._lock:
            self.objects[key] = self.objects.get(key, b"") + data

    def list(self, prefix: str = "") -> Names:
        wanted = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        with self._lock:
            return sorted(key for key in self.objects if key.startswith(wanted))

    def folders(self, prefix: str = "") -> Names:
        skip = len(prefix.strip("/")) + 1 if prefix.strip("/") else 0
        rests = (key[skip:] for key in self.list(prefix))
        return sorted({rest.partition("/")[0] for rest in rests if "/" in rest})

    def size(self, key: str) -> int | None:
        data = self.objects.get(key)
        return None if data is None else len(data)

    def delete(self, key: str) -> None:
        with self._lock:
            self.objects.pop(key, None)

    def below(self, prefix: str) -> Store:
        return Below(self, prefix.strip("/"))

    def local_path(self, key: str) -> Path | None:
        return None


class Below:
    """The keys of a store below a prefix."""

    def __init__(self, store: Store, prefix: str) -> None:
        self._store, self._prefix = store, prefix
        self.url = f"{store.url}/{prefix}"

    def _key(self, key: str) -> str:
        return f"{self._prefix}/{key}".rstrip("/")

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        return self._store.read(self._key(key), start, end)

    def write(self, key: str, data: bytes) -> None:
        self._store.write(self._key(key), data)

    def put(self, key: str, file: Path) -> None:
        self._store.put(self._key(key), file)

    def create(self, key: str, data: bytes) -> bool:
        return self._store.create(self._key(key), data)

    def append(self, key: str, data: bytes) -> None:
        self._store.append(self._key(key), data)

    def list(self, prefix: str = "") -> Names:
        return [key[len(self._prefix) + 1 :] for key in self._store.list(self._key(prefix))]

    def folders(self, prefix: str = "") -> Names:
        return self._store.folders(self._key(prefix))

    def size(self, key: str) -> int | None:
        return self._store.size(self._key(key))

    def delete(self, key: str) -> None:
        self._store.delete(self._key(key))

    def below(self, prefix: str) -> Store:
        return Below(self._store, self._key(prefix.strip("/")))

    def local_path(self, key: str) -> Path | None:
        return self._store.local_path(self._key(key))


class FailingStore:
    """A store whose n-th change (write, put, create, append, delete; from 1) fails where `fails(n)` says so.

    Args:
        store: where the changes that work go, and what is read.
        fails: of the number of a change.
        after: the change is made all the same, and only then it fails: an answer that was lost.
    """

    def __init__(self, store: Store, fails: Callable[[int], bool], *, after: bool = False) -> None:
        self.store, self.url = store, store.url
        self.changes: Names = []  # what was tried, in order
        self._fails, self._after = fails, after
        self._lock = threading.Lock()

    def _try(self, verb: str, key: str, change: Callable[[], object]) -> object:
        with self._lock:
            self.changes.append(f"{verb} {key}")
            number = len(self.changes)
            failing = self._fails(number)
            done = change() if self._after or not failing else None
        if failing:
            raise StorageError(f"{self.url}/{key}: could not {verb} it: change {number} fails")
        return done

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        return self.store.read(key, start, end)

    def write(self, key: str, data: bytes) -> None:
        self._try("write", key, lambda: self.store.write(key, data))

    def put(self, key: str, file: Path) -> None:
        self._try("put", key, lambda: self.store.put(key, file))

    def create(self, key: str, data: bytes) -> bool:
        return bool(self._try("create", key, lambda: self.store.create(key, data)))

    def append(self, key: str, data: bytes) -> None:
        self._try("append to", key, lambda: self.store.append(key, data))

    def list(self, prefix: str = "") -> Names:
        return self.store.list(prefix)

    def folders(self, prefix: str = "") -> Names:
        return self.store.folders(prefix)

    def size(self, key: str) -> int | None:
        return self.store.size(key)

    def delete(self, key: str) -> None:
        self._try("delete", key, lambda: self.store.delete(key))

    def below(self, prefix: str) -> Store:
        return Below(self, prefix.strip("/"))

    def local_path(self, key: str) -> Path | None:
        return None  # who has the path would get round the failures
