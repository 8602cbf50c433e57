"""Text that grows, on any store: a file where keys are files, a row of segments where they are objects.

Objects cannot grow. So what is added goes to segments `key`, `key.0001`, `key.0002`, ... of bounded size,
of which only the last is rewritten, whole, from memory: to add costs at most one segment, however long the
text is, and to add the same again after an answer was lost changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from lehr.errors import KeyMissing, StorageError
from lehr.store.store import Names, Store

LIMIT = 1 << 20  # bytes of a segment


class Growing:
    """The writing end; of one key there is one at a time. Not thread-safe.

    Args:
        store: where.
        key: of the first segment, or of the file.
        limit: most bytes of a segment; another limit than an earlier writer's is fine.
    """

    def __init__(self, store: Store, key: str, limit: int = LIMIT) -> None:
        self._store, self._key, self._limit = store, key, limit
        self._is_file = store.local_path(key) is not None
        self._end: int | None = None  # of the file; None: not looked yet
        self._in_doubt = False  # whether the last append to the file failed
        self._last: tuple[int, bytes] | None = None  # number and bytes of the last segment, as far as is sure

    def append(self, data: bytes) -> None:
        """Add to the end. If it raises, call it again with the same data: nothing is doubled.

        Raises:
            StorageError: the store does not do it.
        """
        if self._is_file:
            self._append_to_file(data)
        else:
            self._append_to_segments(data)

    def _append_to_segments(self, data: bytes) -> None:
        if self._last is None:
            self._last = _last(self._store, self._key)
        segments = _cut(*self._last, data, self._limit)
        for number, content in segments:
            self._store.write(_segment(self._key, number), content)
        self._last = segments[-1]

    def _append_to_file(self, data: bytes) -> None:
        if self._end is None:
            self._end = self._store.size(self._key) or 0
        if not (self._in_doubt and self._is_added(data)):
            self._in_doubt = True
            self._store.append(self._key, data)
        self._in_doubt = False
        self._end += len(data)

    def _is_added(self, data: bytes) -> bool:
        """Whether the append that failed has added it all the same."""
        assert self._end is not None
        found = self._store.size(self._key)
        if (found or 0) not in (self._end, self._end + len(data)):
            raise StorageError(
                f"{self._store.url}/{self._key}: {found} bytes, not {self._end}: who writes there?"
            )
        return found == self._end + len(data)


def read(store: Store, key: str, start: int = 0) -> bytes:
    """What there is from byte `start` of the whole text; b"" beyond its end and where there is none yet."""
    if store.local_path(key) is not None:
        return _read(store, key, start) or b""
    found = []
    for segment in _segments(key):
        if start:  # what comes before it is not fetched
            length = store.size(segment)
            data = _read(store, segment, start) if length is not None and start < length else b""
        else:
            data = _read(store, segment, 0)
            length = None if data is None else len(data)
        if length is None:
            break
        found.append(data or b"")
        start = max(0, start - length)
    return b"".join(found)


def size(store: Store, key: str) -> int | None:
    """Bytes of the whole text; None when there is none."""
    sizes = [store.size(segment) or 0 for segment in keys(store, key)]
    return sum(sizes) if sizes else None


def keys(store: Store, key: str) -> Names:
    """The keys that hold it, in order."""
    found = []
    for segment in _segments(key):
        if store.size(segment) is None:
            break
        found.append(segment)
        if store.local_path(key) is not None:
            break
    return found


def _read(store: Store, key: str, start: int) -> bytes | None:
    try:
        return store.read(key, start or None)
    except KeyMissing:
        return None


def _segments(key: str) -> Iterator[str]:
    number = 0
    while True:
        yield _segment(key, number)
        number += 1


def _segment(key: str, number: int) -> str:
    return f"{key}.{number:04d}" if number else key


def _last(store: Store, key: str) -> tuple[int, bytes]:
    there = keys(store, key)
    return (len(there) - 1, store.read(there[-1])) if there else (0, b"")


def _cut(number: int, before: bytes, data: bytes, limit: int) -> list[tuple[int, bytes]]:
    """The segments to write when `data` comes after segment `number`, which is `before`; at least one."""
    room = max(0, limit - len(before))
    segments = [(number, before + data[:room])]
    for start in range(room, len(data), limit):
        segments.append((number + len(segments), data[start : start + limit]))
    return segments if room or len(segments) == 1 else segments[1:]
