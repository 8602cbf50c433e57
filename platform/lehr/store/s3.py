"""A store in a bucket of S3, or of anything that speaks S3's protocol."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fsspec.asyn import sync

from lehr.errors import KeyMissing, StorageDenied, StorageError
from lehr.store import transfer
from lehr.store.failures import code
from lehr.store.objects import Objects, is_temporary
from lehr.store.store import Names, Store

CONNECT_S = 10.0
READ_S = 20.0  # without a byte of an answer
TRIES = 2  # of a request, within botocore: whoever asks us knows better how long it is worth trying
CONNECTIONS = 32
_CONFLICTS = 5  # two who create at once may both be told to ask again

_HELD = ("PreconditionFailed", "412")
_CONFLICT = ("ConditionalRequestConflict", "409", "OperationAborted")
_UNKNOWN = ("NotImplemented", "501")


def options(given: Mapping[str, Any]) -> dict[str, Any]:
    """s3fs's options: the user's, and ours where there are none.

    A server that hangs is given up after `READ_S` in each of `TRIES`, one that refuses at once.
    """
    config = {
        "connect_timeout": CONNECT_S,
        "read_timeout": READ_S,
        "max_pool_connections": CONNECTIONS,
        "retries": {"total_max_attempts": TRIES, "mode": "standard"},
    }
    return {**given, "config_kwargs": {**config, **(given.get("config_kwargs") or {})}}


class S3(Objects):
    """A store in a bucket; made by `connect`.

    Args:
        filesystem: s3fs's.
        root: bucket and prefix.
        url: what the user calls it.
    """

    def __init__(self, filesystem: Any, root: str, url: str) -> None:
        super().__init__(filesystem, root, url)
        filesystem.retries = 1  # s3fs has a loop of its own around botocore's; one is enough
        self._bucket = filesystem.split_path(f"{root}/key")[0]
        self._bucket_is_there = False

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes:
        begin = start or 0
        if end is not None and end <= begin:
            if self.size(key) is None:
                raise KeyMissing(f"{self._url}/{key}: no such key")
            return b""
        with self._told("read", key) as path:
            return self._run(transfer.download, self._place(path), begin, end)

    def write(self, key: str, data: bytes) -> None:
        with self._told("write", key) as path:
            self._run(transfer.upload, self._place(path), len(data), lambda a, b: bytes(data[a:b]))

    def put(self, key: str, file: Path) -> None:
        with open(file, "rb") as opened, self._told("write", key) as path:
            descriptor = opened.fileno()
            size = os.fstat(descriptor).st_size
            self._run(transfer.upload, self._place(path), size, lambda a, b: _exactly(descriptor, a, b))

    def _create(self, key: str, data: bytes) -> bool:
        # Looking first is all that there is where a server overlooks the condition.
        if self.size(key) is not None:
            return False
        for _ in range(_CONFLICTS):
            try:
                with self._told("create", key) as path:
                    self._ask("put_object", path, Body=data, IfNoneMatch="*")
                return True
            except StorageError as error:
                said = code(error)
                if said in _HELD:
                    return _retried(error) and self.read(key) == data
                if said in _UNKNOWN:
                    self.write(key, data)
                    return self.read(key) == data
                if said not in _CONFLICT:
                    raise
                last = error
        raise last

    def list(self, prefix: str = "") -> Names:
        with self._told("list", prefix) as path:
            pages = list(self._pages(path))
        found = (entry["Key"] for page in pages for entry in page.get("Contents", []))
        skip = len(self._key(f"{self._root}/"))
        keys = (key[skip:] for key in found if not key.endswith("/"))
        return sorted(key for key in keys if not is_temporary(key))

    def folders(self, prefix: str = "") -> Names:
        with self._told("list", prefix) as path:
            pages = list(self._pages(path, Delimiter="/"))
        found = (entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", []))
        return sorted(name.rstrip("/").rpartition("/")[2] for name in found)

    def size(self, key: str) -> int | None:
        try:
            with self._told("look at", key) as path:
                return int(self._ask("head_object", path)["ContentLength"])
        except KeyMissing:  # or the bucket is: such an answer has no words
            self._see_bucket()
            return None

    def delete(self, key: str) -> None:
        with self._told("delete", key) as path:
            self._ask("delete_object", path)

    def below(self, prefix: str) -> Store:
        inner = super().below(prefix)
        assert isinstance(inner, S3)
        inner._bucket_is_there = self._bucket_is_there
        return inner

    def _see_bucket(self) -> None:
        """A bucket that is not there must not look like an empty one."""
        if self._bucket_is_there:
            return
        try:
            with self._told("look at", "bucket"):
                self._run(self._filesystem._call_s3, "head_bucket", Bucket=self._bucket)
        except KeyMissing as error:
            raise StorageDenied(f"{self._url}: NoSuchBucket: there is no bucket {self._bucket}") from error
        except StorageDenied:  # it answers: it is there, and not for us to look at
            pass
        self._bucket_is_there = True

    def _pages(self, folder: str, **parameters: Any) -> Iterator[Any]:
        wanted = f"{self._key(folder)}/".lstrip("/")
        page: Any = {"NextContinuationToken": None, "IsTruncated": True}
        while page.get("IsTruncated"):
            token = page["NextContinuationToken"]
            more = {"ContinuationToken": token} if token else {}
            call, asked = self._filesystem._call_s3, {"Bucket": self._bucket, "Prefix": wanted}
            page = self._run(call, "list_objects_v2", **asked, **more, **parameters)
            yield page

    def _key(self, path: str) -> str:
        return path[len(self._bucket) + 1 :]

    def _place(self, path: str) -> transfer.Place:
        return transfer.Place(self._filesystem, self._bucket, self._key(path))

    def _ask(self, method: str, path: str, **parameters: Any) -> Any:
        moving = len(parameters.get("Body", b""))
        return self._run(self._place(path).ask, method, moving, **parameters)

    def _run(self, coroutine: Any, *args: Any, **kwargs: Any) -> Any:
        return sync(self._filesystem.loop, coroutine, *args, **kwargs)


def _exactly(descriptor: int, start: int, stop: int) -> bytes:
    data = os.pread(descriptor, stop - start, start)
    if len(data) < stop - start:
        raise transfer.Broken("the file has become shorter while it was sent")
    return data


def _retried(error: BaseException) -> bool:
    """Whether botocore has sent it more than once: the first may have worked, its answer being lost."""
    chain = [error, error.__cause__, getattr(error.__cause__, "__cause__", None)]
    answers = (getattr(one, "response", None) for one in chain)
    return any(answer["ResponseMetadata"].get("RetryAttempts", 0) for answer in answers if answer)
