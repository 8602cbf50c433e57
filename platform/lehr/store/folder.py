"""A store in a folder of this machine, whose writes are whole and durable."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from lehr.errors import KeyMissing, StorageError
from lehr.store.objects import TEMPORARY, Objects, is_temporary
from lehr.store.store import Names

ABANDONED_S = 600.0  # after which a temporary file that nobody adds to was left by a killed writer
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # where there are no hard links
_TRIES = 100  # of a write whose folder another process tidies away meanwhile


class Folder(Objects):
    """A store in a folder of this machine. Writing is what fsspec does not promise: whole and durable."""

    def write(self, key: str, data: bytes) -> None:
        with self._written("write", key) as path:
            _persistently(lambda: _place(path, _filled_with(data), os.replace))

    def put(self, key: str, file: Path) -> None:
        with open(file, "rb"), self._written("write", key) as path:  # a missing file is no missing folder
            _persistently(lambda: _place(path, lambda new, _: shutil.copyfile(file, new), os.replace))

    def _put_new(self, key: str, data: bytes) -> None:
        with self._written("create", key) as path:
            _persistently(lambda: _place(path, _filled_with(data), _link))

    def append(self, key: str, data: bytes) -> None:
        with self._written("append to", key) as path:
            _persistently(lambda: _append(path, data))

    def delete(self, key: str) -> None:
        with contextlib.suppress(KeyMissing), self._written("delete", key) as path:
            os.remove(path)
        self._tidy(os.path.dirname(self._path(key)))

    def local_path(self, key: str) -> Path | None:
        return Path(self._path(key))

    def _files(self, folder: str) -> Names:
        # fsspec passes over a folder that it may not read: checkpoints would seem never to have been.
        walk = os.walk(folder, onerror=_raise_if_there)
        return [os.path.join(place, name) for place, _, names in walk for name in names]

    def _folders(self, folder: str) -> Names:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_dir()]

    def _tidy(self, folder: str) -> None:
        """Remove folders that hold no keys, and with them what killed writers left there."""
        while folder.startswith(f"{self._root}/") and _remove_empty(folder):
            folder = os.path.dirname(folder)

    @contextlib.contextmanager
    def _written(self, verb: str, key: str) -> Iterator[str]:
        """As `_told`, but a folder that cannot be made is no missing key."""
        try:
            with self._told(verb, key) as path:
                yield path
        except KeyMissing as error:
            if verb == "delete":
                raise
            reason = error.__cause__
            raise StorageError(f"{self._url}/{key}: could not {verb} it: {reason}") from reason


def _raise_if_there(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _remove_empty(folder: str) -> bool:
    """Remove a folder that holds nothing but abandoned temporary files; whether it is gone."""
    try:
        paths = [os.path.join(folder, name) for name in os.listdir(folder)]
        if not all(_is_abandoned(path) for path in paths):
            return False
        for path in paths:
            os.remove(path)
        os.rmdir(folder)
    except OSError:  # somebody was faster, or puts something there right now
        return False
    return True


def _is_abandoned(path: str) -> bool:
    return is_temporary(path) and time.time() - os.stat(path).st_mtime > ABANDONED_S


Fill = Callable[[str, int], object]  # given a new file's path and descriptor


def _filled_with(data: bytes) -> Fill:
    return lambda _, descriptor: _write_all(descriptor, data)


def _place(path: str, fill: Fill, put: Callable[[str, str], None]) -> None:
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            fill(temporary, descriptor)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        put(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise
    _sync_folder(folder)


def _append(path: str, data: bytes) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "ab", buffering=0) as file:
        end = file.tell()
        try:
            _write_all(file.fileno(), data)
            os.fsync(file.fileno())
        except OSError:
            os.truncate(path, end)  # a full disk: half a line would be worse than none
            raise


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _link(temporary: str, path: str) -> None:
    """Give the file its name if nobody has: unlike a rename, a link refuses."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
        os.replace(temporary, path)
    else:
        os.remove(temporary)


def _sync_folder(folder: str) -> None:
    """Make the name durable, too; some filesystems cannot, and some folders are gone again."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _persistently(action: Callable[[], None]) -> None:
    """Do it again when the folder vanished between its making and its use."""
    for _ in range(_TRIES):
        with contextlib.suppress(FileNotFoundError):
            action()
            return
    action()
