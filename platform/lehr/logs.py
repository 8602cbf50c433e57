"""A worker's own output, kept: standard output and standard error go to `logs/rank-0000.a1.log` of its run.

Redirected are the file descriptors, not Python's objects, so that what TensorFlow, Gloo and a dying
interpreter print from C++ is there too. In a store with local paths the descriptors lead into the final file:
what was printed before a kill -9 is there. Elsewhere they lead into a spool file from which a thread appends
to the store every few seconds; a kill -9 loses at most what was not yet sent.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from lehr.errors import KeyMissing, LehrError

PERIOD_S = 5.0
CHUNK_BYTES = 4 << 20  # of one append, so that a flood cannot fill the memory

# Lines that say nothing about a failure: the start-up remarks of TensorFlow, absl, XLA and Horovod.
_CHATTER = re.compile(
    r"cpu_feature_guard|oneDNN custom operations|To enable the following instructions|computation_placer"
    r"|WARNING: All log messages before absl|TF_ENABLE_ONEDNN_OPTS|cudart_stub|cuda_dnn|cuda_blas|cuda_fft"
    r"|Could not find cuda drivers|TF-TRT Warning|cuda_executor|Unable to register .* factory"
    r"|failed call to cuInit|grpc_server_lib|coordination_service|MLIR V1 optimization|CollectiveAllReduce"
    r"|could not be loaded to run|^\s*$"
)


class Sink(Protocol):
    """What is needed of a store to keep a log in it."""

    def read(self, key: str, start: int | None = None, end: int | None = None) -> bytes: ...
    def append(self, key: str, data: bytes) -> None: ...
    def list(self, prefix: str = "") -> list[str]: ...
    def size(self, key: str) -> int | None: ...
    def local_path(self, key: str) -> Path | None: ...


def key(rank: int, attempt: int) -> str:
    """Where the log of a worker's attempt is, below its run."""
    return f"logs/rank-{rank:04d}.a{attempt}.log"


_active: list[str] = []  # keys that this process captures into, outermost first


@contextlib.contextmanager
def capture(store: Sink, rank: int, attempt: int) -> Iterator[None]:
    """Send all that this process prints, from Python and C++, into the log of a worker until the block ends.

    Args:
        store: the run's folder.
        rank: number of this worker.
        attempt: number of this life of the run, from 1.
    """
    with into(store, key(rank, attempt)):
        yield


@contextlib.contextmanager
def into(store: Sink, target: str) -> Iterator[None]:
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
def _spooled(store: Sink, target: str) -> Iterator[None]:
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
    """A thread that appends what is new in a spool file to a key of the store."""

    def __init__(self, store: Sink, target: str, spool: Path) -> None:
        self._store, self._target, self._spool = store, target, spool
        self._sent = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lehr-log", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send the rest and end."""
        self._end.set()
        self._thread.join()
        self._send()

    def _run(self) -> None:
        # An object cannot grow: each append writes all of it again, so a long log is sent less often.
        while not self._end.wait(PERIOD_S * (1 + self._sent // CHUNK_BYTES)):
            _flush()
            self._send()

    def _send(self) -> None:
        with contextlib.suppress(LehrError, OSError), self._spool.open("rb") as spool:
            spool.seek(self._sent)
            while data := spool.read(CHUNK_BYTES):
                self._store.append(self._target, data)
                self._sent += len(data)


def newest(store: Sink, rank: int) -> int:
    """The last attempt that left a log of this worker; 0 when none did."""
    names = [re.fullmatch(rf"logs/rank-{rank:04d}\.a(\d+)\.log", name) for name in store.list("logs/")]
    return max((int(name[1]) for name in names if name), default=0)


def tail(store: Sink, rank: int, attempt: int, *, lines: int = 15) -> list[str]:
    """The last lines of a log that can tell why a worker failed; [] when there is no such log.

    Start-up remarks of the libraries are left out.
    """
    target = key(rank, attempt)
    try:
        size = store.size(target)
        data = store.read(target, max(0, (size or 0) - (64 << 10)), None) if size else b""
    except KeyMissing:
        return []
    text = data.decode("utf-8", errors="replace").splitlines()
    return [line for line in text if not _CHATTER.search(line)][-lines:]
