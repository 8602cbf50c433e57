"""A folder of this machine where what is to be saved waits until the store takes it.

It need only outlast an outage of the store: not the process (what a killed one leaves, the next removes), and
not the host; so nothing is forced to the disk.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lehr.checkpoint import parts
from lehr.checkpoint.manifest import Part
from lehr.checkpoint.parts import Arrays, State, sha256

PREFIX = "lehr-spool-"
LOCK = "lock"  # held by the process whose spool it is


@dataclass(frozen=True)
class File:
    """One file of a checkpoint, to be sent: what it is, and its bytes or the local file that holds them."""

    part: Part
    content: Path | bytes


def size_bytes(files: dict[str, Arrays]) -> int:
    """Bytes of all arrays, by file name; the files' headers are little against them."""
    return sum(array.nbytes for arrays in files.values() for array in arrays.values())


class Spool:
    """Files of at most so many bytes, in a folder of this process. Thread-safe.

    Args:
        limit_bytes: of all its files.
        parent: the folder that its own is made in; by default where temporary files are.
    """

    def __init__(self, limit_bytes: int, parent: Path | None = None) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._parent = parent or Path(tempfile.gettempdir())
        self._folder: Path | None = None
        self._remove: weakref.finalize[[Path, int], Spool] | None = None
        self._made = 0
        self._closed = False
        self._alone = threading.Lock()

    def fits(self, size: int) -> bool:
        """Whether there is room for so many bytes."""
        return self.used_bytes + size <= self.limit_bytes

    def write(self, state: State, files: dict[str, Arrays]) -> list[File]:
        """Arrays by file name, of `state`, as files of the spool.

        Raises:
            OSError: the disk does not take them; nothing stays.
            TypeError, ValueError: an array cannot be stored.
        """
        written: list[File] = []
        try:
            for file, arrays in files.items():
                path = self._new()
                try:
                    size, digest = parts.write(path, arrays)
                except BaseException:
                    path.unlink(missing_ok=True)
                    raise
                written.append(File(_part(state, file, arrays, (size, digest)), path))
                self._count(size)
        except BaseException:
            self.free(written)
            raise
        return written

    def free(self, files: Sequence[File]) -> None:
        """Remove those of `files` that are the spool's."""
        for file in files:
            if isinstance(file.content, Path):
                with contextlib.suppress(OSError):
                    file.content.unlink()
                self._count(-file.part.size_bytes)

    def close(self) -> None:
        """Remove the folder with all that is in it. The end of the process does the same."""
        with self._alone:
            if self._remove is not None:
                self._remove()
            self._folder, self._remove, self._closed = None, None, True

    def _count(self, size: int) -> None:
        with self._alone:
            self.used_bytes += size

    def _new(self) -> Path:
        with self._alone:
            if self._closed:
                raise OSError("it is closed")
            if self._folder is None:
                self._parent.mkdir(parents=True, exist_ok=True)
                remove_abandoned(self._parent)
                self._folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._parent))
                self._remove = weakref.finalize(self, _remove, self._folder, _lock(self._folder))
            self._made += 1
            return self._folder / f"{self._made:06d}"


def in_memory(state: State, files: dict[str, Arrays]) -> list[File]:
    """Arrays by file name, of `state`, encoded where they are, for want of a disk that takes them."""
    found = []
    for file, arrays in files.items():
        data = parts.encode(arrays)
        found.append(File(_part(state, file, arrays, (len(data), sha256(data))), data))
    return found


def _part(state: State, file: str, arrays: Arrays, identity: tuple[int, str]) -> Part:
    span = (state.first_slot, state.slots) if arrays is state.chains else (None, None)
    return Part(file, *identity, *span)


def _lock(folder: Path) -> int:
    """Say that a living process has the folder; the lock goes with the process, however it ends."""
    name = folder / f"{LOCK}.new"
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.rename(name, folder / LOCK)  # whoever sees it sees it locked
    return descriptor


def _remove(folder: Path, lock: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


def remove_abandoned(parent: Path) -> None:
    """Remove the spools below `parent` whose processes were killed."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another's, or gone by now
            descriptor = os.open(folder / LOCK, os.O_WRONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
