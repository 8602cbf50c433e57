"""Where a run is kept: keys and bytes, on anything that fsspec has a filesystem for.

    connect(url, options) -> Store            a folder, file://, memory://, s3://, gs://, ...
    probe(store)                              write, read and delete a small key, or say why not

Nothing here assumes folders, renames or local paths: an object store has none. A key is a relative,
`/`-separated string; paths are strings because a URL's double slash collapses in `Path`.

Source for what fsspec promises: https://filesystem-spec.readthedocs.io.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import fsspec
from fsspec.implementations.local import LocalFileSystem

from lehr.errors import KeyMissing, StorageError, UserError, letter

Names = list[str]  # inside a class with a method `list`, that name is the method
ACCEPTED = "a folder, file://, memory://, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix"
EXTRAS = {"gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure", "adl": "azure"}
_TEMPORARY = ".lehr-write-"  # files being written in a folder; never keys
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # where there are no hard links
_TRIES = 100  # of a local write whose folder, or temporary file, another process tidies away meanwhile


class Store(Protocol):
    """Bytes by key. Keys are relative: `checkpoints/step-00001000.a1/manifest.json`.

    Every method raises StorageError when the store does not do what was asked.
    """

    @property
    def url(self) -> str:
        """What `connect` takes to come here again."""
        ...

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        """The bytes [start, end) of `key`; bounds are non-negative and may lie beyond the end.

        Raises:
            KeyMissing: there is no such key.
        """
        ...

    def write(self, key: str, data: bytes) -> None:
        """Set `key`. Readers see the old bytes or the new ones, whole; on return they are durable."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Set `key` if there is none: of several who try, one gets True."""
        ...

    def append(self, key: str, data: bytes) -> None:
        """Add to the end of `key`, which need not exist. One writer a key."""
        ...

    def list(self, prefix: str = "") -> Names:
        """All keys below the folder `prefix`, however deep, sorted; [] when there are none."""
        ...

    def folders(self, prefix: str = "") -> Names:
        """Names of the folders right below the folder `prefix`, sorted. Cheap where `list` would be long."""
        ...

    def size(self, key: str) -> int | None:
        """Bytes of `key`; None when there is no such key."""
        ...

    def delete(self, key: str) -> None:
        """Remove `key`; one that is missing is fine."""
        ...

    def below(self, prefix: str) -> Store:
        """The store whose keys are this one's below `prefix`."""
        ...

    def local_path(self, key: str) -> Path | None:
        """The file that holds `key`, if keys are files of this machine."""
        ...


def connect(url: str, options: Mapping[str, Any] | None = None) -> Store:
    """The store at `url`. Nothing is written and, as a rule, nothing asked of the network yet; see `probe`.

    Args:
        url: a URL of any scheme that fsspec knows, or a folder; a relative one is below the working folder.
        options: options of the filesystem (endpoint, credentials), their secrets resolved.

    Raises:
        UserError: no such scheme, a package is missing, or the options are not this filesystem's.
    """
    listings = {} if "://" not in url else {"use_listings_cache": False}  # other machines write here, too
    try:
        filesystem, root = fsspec.core.url_to_fs(os.path.expanduser(url), **listings | dict(options or {}))
    except ImportError as error:
        raise UserError(letter(url, str(error), do=_installation(url))) from None
    except ValueError as error:
        raise UserError(letter(url, str(error), accepted=ACCEPTED)) from None
    except TypeError as error:
        do = "see the options of its filesystem"
        raise UserError(letter(f"storage_options for {url}", str(error), do=do)) from None
    if isinstance(filesystem, LocalFileSystem):
        root = os.path.abspath(root)
        return Folder(filesystem, root, f"file://{root}" if "://" in url else root)
    return Objects(filesystem, root.rstrip("/"), url.rstrip("/") if not url.endswith("://") else url)


def _installation(url: str) -> str:
    scheme = url.split("://")[0].split("::")[0]
    if extra := EXTRAS.get(scheme):
        return f"pip install 'lehr[{extra}]'"
    return "pip install the package that it names"


def probe(store: Store) -> None:
    """Write, read and delete a small key, so that a run fails at its start and not at its first checkpoint.

    Raises:
        UserError: the store cannot be written.
    """
    key = f"lehr-probe-{uuid.uuid4().hex}"
    try:
        store.write(key, key.encode())
        if store.read(key) != key.encode():
            raise StorageError("what was read back is not what was written")
        store.delete(key)
    except StorageError as error:
        raise UserError(
            letter(store.url, f"cannot be written: {error}", accepted=ACCEPTED,
                   do="name another with --storage URL, or mend its address, credentials or permissions")
        ) from error  # fmt: skip


class Objects:
    """A store on any fsspec filesystem; made by `connect`.

    Args:
        filesystem: the filesystem.
        root: what it calls the folder that keys are below, without a slash at its end.
        url: what the user calls it.
    """

    def __init__(self, filesystem: Any, root: str, url: str) -> None:
        self._filesystem, self._root, self._url = filesystem, root, url

    @property
    def url(self) -> str:
        return self._url

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        with self._told("read", key) as path:
            return bytes(self._filesystem.cat_file(path, start=start, end=end))

    def write(self, key: str, data: bytes) -> None:
        with self._told("write", key) as path:
            self._filesystem.pipe_file(path, data)

    def create(self, key: str, data: bytes) -> bool:
        with _alone(self._path(key)):
            return self._create(key, data)

    def _create(self, key: str, data: bytes) -> bool:
        try:
            with self._told("create", key) as path:
                self._filesystem.pipe_file(path, data, mode="create")
        except StorageError as error:
            # Some filesystems say the same of a key below a key.
            if isinstance(error.__cause__, FileExistsError) and self.size(key) is not None:
                return False
            raise
        return True

    def append(self, key: str, data: bytes) -> None:
        # Objects cannot grow: read and rewrite.
        with _alone(self._path(key)):
            before = self.read(key) if self.size(key) is not None else b""
            self.write(key, before + data)

    def list(self, prefix: str = "") -> Names:
        with self._told("list", prefix) as path:
            found = self._filesystem.find(path or "/")
        keys = (path[len(self._root) :].lstrip("/") for path in found)
        wanted = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        return sorted(key for key in keys if key.startswith(wanted) and not _is_temporary(key))

    def folders(self, prefix: str = "") -> Names:
        try:
            with self._told("list", prefix) as path:
                found = self._filesystem.ls(path or "/", detail=True)
        except KeyMissing:
            return []
        below = [entry["name"].rstrip("/") for entry in found if entry["type"] == "directory"]
        return sorted(path.rpartition("/")[2] for path in below)

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

    def _path(self, key: str) -> str:
        if any(part in ("", ".", "..") for part in key.split("/")):
            raise ValueError(f"{key!r} is no key: a relative path without empty, '.' or '..' parts")
        return f"{self._root}/{key}"

    @contextlib.contextmanager
    def _told(self, verb: str, key: str) -> Iterator[str]:
        """The path of `key` (of a folder, when listing) to do something with; says it if that fails."""
        path = (
            self._path(key)
            if verb != "list"
            else self._path(key.strip("/"))
            if key.strip("/")
            else self._root
        )
        try:
            yield path
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise KeyMissing(f"{self._url}/{key}: no such key") from error
        except StorageError:
            raise
        except Exception as error:  # cloud libraries have trees of their own, not all below OSError
            reason = f"{type(error).__name__}: {error}"
            raise StorageError(f"{self._url}/{key}: could not {verb} it: {reason}") from error


class Folder(Objects):
    """A store in a folder of this machine. Writing is what fsspec does not promise: whole and durable."""

    def write(self, key: str, data: bytes) -> None:
        with self._written("write", key) as path:
            _persistently(lambda: _place(path, data, os.replace))

    def _create(self, key: str, data: bytes) -> bool:
        try:
            with self._written("create", key) as path:
                _persistently(lambda: _place(path, data, _link))
        except StorageError as error:
            if isinstance(error.__cause__, FileExistsError):
                return False
            raise
        return True

    def append(self, key: str, data: bytes) -> None:
        with self._written("append to", key) as path:
            _persistently(lambda: _append(path, data))

    def delete(self, key: str) -> None:
        with contextlib.suppress(KeyMissing), self._written("delete", key) as path:
            os.remove(path)
        self._tidy(os.path.dirname(self._path(key)))

    def local_path(self, key: str) -> Path | None:
        return Path(self._path(key))

    def _tidy(self, folder: str) -> None:
        """Remove folders that hold no keys: what a killed writer left there goes with them.

        A writer whose temporary file this takes away writes it again.
        """
        while folder.startswith(f"{self._root}/"):
            try:
                names = os.listdir(folder)
                if not all(name.startswith(_TEMPORARY) for name in names):
                    return
                for name in names:
                    os.remove(os.path.join(folder, name))
                os.rmdir(folder)
            except OSError:
                return
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


def _is_temporary(key: str) -> bool:
    return key.rpartition("/")[2].startswith(_TEMPORARY)


def _place(path: str, data: bytes, put: Callable[[str, str], None]) -> None:
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f"{_TEMPORARY}{uuid.uuid4().hex}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            _write_all(descriptor, data)
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
        except OSError:
            os.truncate(path, end)  # a full disk: half a line would be worse than none
            raise
        os.fsync(file.fileno())


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


_locks: dict[str, threading.Lock] = {}


def _alone(path: str) -> threading.Lock:
    """A lock for what a filesystem does in two calls, among the threads of this process."""
    return _locks.setdefault(path, threading.Lock())
