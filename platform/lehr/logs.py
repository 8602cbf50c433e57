"""A worker's own output, kept: standard output and standard error go to `logs/rank-0000.a1.log` of its run.

Redirected are the file descriptors, not Python's objects, so that what TensorFlow, Gloo and a dying
interpreter print from C++ is there too. In a store with local paths the descriptors lead into the final file:
what was printed before a kill -9 is there. Elsewhere they lead into a spool file from which a thread sends
to the store, every few seconds, at most `CHUNK_BYTES` at a time and one segment more, however long the log
is; a kill -9 loses at most what was not yet sent, and so does a store that fails for the last `CLOSE_S`
seconds.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from lehr.errors import LehrError
from lehr.store import Store, growing
from lehr.store.growing import Growing

PERIOD_S = 5.0  # between two sendings
LONGEST_PERIOD_S = 60.0  # while the store fails
CLOSE_S = 10.0  # that the end waits for the rest to be sent
CHUNK_BYTES = 4 << 20  # of one sending, so that a flood fills neither the memory nor the network
RETRY_S = 0.5  # between two tries, then
TAIL_BYTES = 64 << 10

# Lines that say nothing about a failure: the start-up remarks of TensorFlow, absl, XLA and Horovod.
_CHATTER = re.compile(
    r"cpu_feature_guard|oneDNN custom operations|To enable the following instructions|computation_placer"
    r"|WARNING: All log messages before absl|TF_ENABLE_ONEDNN_OPTS|cudart_stub|cuda_dnn|cuda_blas|cuda_fft"
    r"|Could not find cuda drivers|TF-TRT Warning|cuda_executor|Unable to register .* factory"
    r"|failed call to cuInit|grpc_server_lib|coordination_service|MLIR V1 optimization|CollectiveAllReduce"
    r"|could not be loaded to run|^\s*$"
)


def key(rank: int, attempt: int) -> str:
    """Where the log of a worker's attempt is, below its run."""
    return f"logs/rank-{rank:04d}.a{attempt}.log"


_active: list[str] = []  # keys that this process captures into, outermost first


@contextlib.contextmanager
def capture(store: Store, rank: int, attempt: int) -> Iterator[None]:
    """Send all that this process prints, from Python and C++, into the log of a worker until the block ends.

    Args:
        store: the run's folder.
        rank: number of this worker.
        attempt: number of this life of the run, from 1.
    """
    with into(store, key(rank, attempt)):
        yield


@contextlib.contextmanager
def into(store: Store, target: str) -> Iterator[None]:
    """Send all that this process prints into the key `target`, after what it holds, until the block ends.

    A capture inside another one into the same key changes nothing; into a different one, it has precedence.
    A store that fails does not stop anybody: what could not be sent is tried again.
    """
    if target in _active:
        yield
        return
    path = store.local_path(target)
    _active.append(target)
    try:
        with _appended(path) if path is not None else _spooled(store, target):
            yield
    finally:
        _active.remove(target)


@contextlib.contextmanager
def _appended(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        with _redirected(descriptor):
            yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _spooled(store: Store, target: str) -> Iterator[None]:
    with tempfile.NamedTemporaryFile(prefix="lehr-log-") as spool:
        sender = _Sender(store, target, Path(spool.name))
        try:
            with _appended(Path(spool.name)):
                yield
        finally:
            sender.close()


@contextlib.contextmanager
def _redirected(descriptor: int) -> Iterator[None]:
    _flush()
    saved = [os.dup(1), os.dup(2)]
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        yield
    finally:
        _flush()
        for number, before in enumerate(saved, start=1):
            os.dup2(before, number)
            os.close(before)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            stream.flush()


class _Sender:
    """A thread that adds what is new in a spool file to a text in the store."""

    def __init__(self, store: Store, target: str, spool: Path) -> None:
        self._text, self._spool = Growing(store, target), spool
        self._sent = 0
        self._end, self._until = threading.Event(), 0.0
        self._thread = threading.Thread(target=self._run, name="lehr-log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send the rest, for so long as that may take, and end."""
        self._until = time.monotonic() + CLOSE_S
        self._end.set()
        self._thread.join(CLOSE_S)  # a call to the store that hangs stays behind

    def _run(self) -> None:
        pause_s = PERIOD_S
        while not self._end.wait(pause_s):
            _flush()
            try:
                self._send()
                pause_s = PERIOD_S
            except (LehrError, OSError):
                pause_s = min(2 * pause_s, LONGEST_PERIOD_S)
        self._send_rest()

    def _send_rest(self) -> None:
        while time.monotonic() < self._until:
            try:
                if not self._send():
                    return
            except (LehrError, OSError):
                time.sleep(RETRY_S)

    def _send(self) -> int:
        """Send the next chunk; its size in bytes."""
        with self._spool.open("rb") as spool:
            spool.seek(self._sent)
            data = spool.read(CHUNK_BYTES)
        if data:
            self._text.append(data)
            self._sent += len(data)
        return len(data)


def kept(store: Store) -> dict[int, list[int]]:
    """{attempt: [rank]}: which workers left a log in which attempt, ascending."""
    names = (re.fullmatch(r"logs/rank-(\d+)\.a(\d+)\.log", name) for name in store.list("logs"))
    found = sorted((int(name[2]), int(name[1])) for name in names if name)
    return {attempt: [rank for other, rank in found if other == attempt] for attempt, _ in found}


def newest(store: Store, rank: int) -> int:
    """The last attempt that left a log of this worker; 0 when none did."""
    return max((attempt for attempt, ranks in kept(store).items() if rank in ranks), default=0)


def tail(store: Store, rank: int, attempt: int, *, lines: int = 15) -> list[str]:
    """The last lines of a log that can tell why a worker failed; [] when there is no such log.

    Start-up remarks of the libraries are left out.
    """
    target = key(rank, attempt)
    size = growing.size(store, target) or 0
    data = growing.read(store, target, max(0, size - TAIL_BYTES)) if size else b""
    text = data.decode("utf-8", errors="replace").splitlines()
    return [line for line in text if not _CHATTER.search(line)][-lines:]


def last(store: Store, target: str, lines: int) -> tuple[bytes, int]:
    """The last lines of the log at `target`, read from its end, and how many bytes it has."""
    size, back = growing.size(store, target) or 0, TAIL_BYTES
    while lines > 0:
        start = max(0, size - back)
        data = growing.read(store, target, start)
        found = data.splitlines(keepends=True)
        if len(found) > lines or not start:  # the first of them may be cut
            return b"".join(found[-lines:]), start + len(data)
        back *= 4
    return b"", size
