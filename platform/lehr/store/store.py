"""What a store is."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

Names = list[str]  # inside a class with a method `list`, that name is the method


class Store(Protocol):
    """Bytes by key. Keys are relative: `checkpoints/step-00001000.a1/manifest.json`.

    Every method raises StorageError when the store does not do what was asked, and its kind StorageDenied
    when the store refuses: credentials, permission, no such bucket. A bucket that is not there is never an
    empty one. All but `below` and `local_path` may be called from several threads, but not after a fork.
    """

    @property
    def url(self) -> str:
        """What `connect` takes to come here again."""
        ...

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        """The bytes [start, end) of `key`; bounds are non-negative and may lie beyond the end.

        All of them are of one version of it, however large it is, and never fewer than there are.

        Raises:
            KeyMissing: there is no such key.
        """
        ...

    def write(self, key: str, data: bytes) -> None:
        """Set `key`. Readers see the old bytes or the new ones, whole; on return they are durable."""
        ...

    def put(self, key: str, file: Path) -> None:
        """Set `key` to what a local file holds, which may be large: it is not read into memory whole.

        Readers see the old bytes or the new ones, whole; on return they are durable.
        """
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Set `key` if there is none: of several who try, one gets True.

        Folders, memory, s3, gs and az have a way to ask for this. An S3 server that knows no conditional
        put is asked whether there is a key, and then to put it: two at the same moment may both get True.
        """
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
