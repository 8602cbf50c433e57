"""Large objects to and from S3: in parts, several at once, each bounded in time.

Coroutines for s3fs's event loop. They go through its `_call_s3`, which keeps the session and the user's
options for each request; what they add to s3fs's own transfers: a part is sent as soon as another one is
through, a body that ends early is fetched on from there or raises, parts of two versions of an object are
never mixed, and a server that stops reading is noticed.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from lehr.store.failures import code

Answer = TypeVar("Answer")

PART = 16 << 20  # bytes; S3 takes parts from 5 MiB on, all but the last
AT_ONCE = 4  # parts in flight of one object, and so of `PART` bytes in memory
MOST_PARTS = 10_000  # that S3 takes
RANGE = 16 << 20  # bytes that are asked for at once where there is more to read
READERS = 6  # ranges in flight of one object; they come straight into the result
ASK_S = 70.0  # bounds a request without its body: two tries, each with time to connect and to answer
SLOWEST = 128 << 10  # bytes per second of one request, under which it counts as hanging
ABORT_S = 10.0
_TRIES = 3  # of a body that ends early, and of an object that changes while it is read


@dataclass(frozen=True)
class Place:
    """An object of a bucket, and the filesystem that knows how to ask for it."""

    filesystem: Any
    bucket: str
    key: str

    async def ask(self, method: str, moving: int = 0, **parameters: Any) -> Any:
        """One request, by its name in botocore; `moving`: bytes of its body."""
        call = self.filesystem._call_s3(method, Bucket=self.bucket, Key=self.key, **parameters)
        return await bounded(call, moving)


class Broken(OSError):
    """A transfer that was tried often enough."""


async def bounded(action: Awaitable[Answer], moving: int) -> Answer:
    """The answer, or Broken once it takes longer than moving so many bytes ever should."""
    limit_s = ASK_S + moving / SLOWEST
    try:
        return await asyncio.wait_for(action, limit_s)
    except TimeoutError as error:
        raise Broken(str(error) or f"no end within {limit_s:.0f} s") from error


class _Changed(Exception):
    """The object is not any more the one whose first bytes were read."""


async def download(place: Place, start: int, end: int | None) -> bytes:
    """The bytes [start, end) of an object: all of one version of it.

    Raises:
        Broken: it changes faster than it can be read, or its body ends early each time.
        Exception: whatever s3fs raises.
    """
    for _ in range(_TRIES):
        with contextlib.suppress(_Changed):
            return await _download(place, start, end)
    raise Broken("it was replaced again and again while it was read")


async def _download(place: Place, start: int, end: int | None) -> bytes:
    stop = start + RANGE if end is None else min(end, start + RANGE)
    try:
        first = await place.ask("get_object", Range=_range(start, stop))
    except OSError as error:
        if code(error) in ("InvalidRange", "416"):  # it begins beyond the object's end
            return b""
        raise
    total = _total(first)
    if total is None:  # a server that knows no ranges
        body = io.BytesIO(bytes(first["ContentLength"]))
        with body.getbuffer() as view:
            await bounded(_receive(first, view), len(view))
        return body.getvalue()[start:end]
    stop = total if end is None else min(end, total)
    return await _gather(place, first, start, stop)


async def _gather(place: Place, first: Any, start: int, stop: int) -> bytes:
    """The body of `first`, and beside it the rest up to `stop`, straight into the result."""
    found = io.BytesIO(bytes(stop - start))  # its value is handed out without a copy
    with found.getbuffer() as view:
        rest = iter(range(start + RANGE, stop, RANGE))

        async def work(response: Any = None) -> None:
            if response is not None:
                await _fill(place, first, response, start, view[:RANGE])
            for begin in rest:
                await _fill(place, first, None, begin, view[begin - start : begin - start + RANGE])

        await _together(
            [work(first), *(work() for _ in range(min(READERS - 1, (stop - start - 1) // RANGE)))]
        )
    return found.getvalue()


async def _fill(place: Place, first: Any, response: Any, start: int, view: memoryview) -> None:
    """Bytes from `start` on into `view`; goes on from where a body was cut."""
    done, error = 0, None
    for _ in range(_TRIES):
        try:
            if response is None:
                response = await _again(place, first, start + done, start + len(view))
            done += await bounded(_receive(response, view[done:]), len(view) - done)
            return
        except _Cut as cut:
            done, error, response = done + cut.received, cut, None
    assert error is not None
    raise Broken(f"its body ended early, {_TRIES} times: {error.__cause__ or error}") from error


async def _again(place: Place, first: Any, start: int, stop: int) -> Any:
    etag = first.get("ETag")
    match = {"IfMatch": etag} if etag else {}
    try:
        response = await place.ask("get_object", Range=_range(start, stop), **match)
    except OSError as error:
        if code(error) in ("PreconditionFailed", "412", "InvalidRange", "416", "NoSuchKey"):
            raise _Changed from error
        raise
    if response.get("ETag") != etag or _total(response) != _total(first):
        response["Body"].close()
        raise _Changed
    return response


class _Cut(Exception):
    """A body ended before its length."""

    def __init__(self, received: int) -> None:
        super().__init__(f"{received} bytes came")
        self.received = received


async def _receive(response: Any, view: memoryview) -> int:
    """The body into `view`, all of which it must fill."""
    received, body = 0, response["Body"]
    try:
        while received < len(view):
            count = await body.readinto(view[received:])
            if not count:
                raise EOFError("no more came")
            received += count
        await body.read()  # the end, after which the connection can be used again
    except Exception as error:  # of aiohttp, aiobotocore or botocore: all say that the connection broke
        body.close()
        raise _Cut(received) from error
    except BaseException:  # it took too long
        body.close()
        raise
    return received


def _range(start: int, stop: int) -> str:
    return f"bytes={start}-{stop - 1}"


def _total(response: Any) -> int | None:
    """Bytes of the object, from `Content-Range: bytes 0-99/1234`."""
    total = str(response.get("ContentRange", "")).rpartition("/")[2]
    return int(total) if total.isdigit() else None


async def upload(place: Place, size: int, read: Callable[[int, int], bytes]) -> None:
    """Set an object of `size` bytes, whole or not at all.

    Args:
        place: where.
        size: bytes.
        read: the bytes [start, stop) of what it is to be; called in a thread of its own.
    """
    if size < 2 * PART:
        data = await asyncio.to_thread(read, 0, size)
        await place.ask("put_object", size, Body=data)
        return
    begun = await place.ask("create_multipart_upload")
    upload_id = begun["UploadId"]
    try:
        parts = await _upload_parts(place, upload_id, size, read)
        await place.ask("complete_multipart_upload", UploadId=upload_id, MultipartUpload={"Parts": parts})
    except BaseException:
        with contextlib.suppress(Exception):  # what is left of it is no object; bucket rules remove it
            abort = place.ask("abort_multipart_upload", UploadId=upload_id)
            await asyncio.wait_for(abort, ABORT_S)
        raise


async def _upload_parts(
    place: Place, upload_id: str, size: int, read: Callable[[int, int], bytes]
) -> list[dict[str, Any]]:
    done: dict[int, dict[str, Any]] = {}
    ranges = enumerate(_parts(size), start=1)

    async def work() -> None:
        for number, (start, stop) in ranges:
            data = await asyncio.to_thread(read, start, stop)
            answer = await place.ask(
                "upload_part", stop - start, UploadId=upload_id, PartNumber=number, Body=data
            )
            # S3 wants to hear the checksums again that botocore had it check.
            sums = {k: v for k, v in answer.items() if k.startswith("Checksum") and k != "ChecksumType"}
            done[number] = {"PartNumber": number, "ETag": answer["ETag"], **sums}

    await _together([work() for _ in range(AT_ONCE)])
    return [done[number] for number in sorted(done)]


def _parts(size: int) -> Iterator[tuple[int, int]]:
    part = max(PART, -(-size // MOST_PARTS))
    for start in range(0, size, part):
        yield start, min(start + part, size)


async def _together(works: list[Any]) -> None:
    """Run them at once; the first error ends the others and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from errors.exceptions[0].__cause__
