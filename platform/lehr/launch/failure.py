"""Why a worker ended, in a form that crosses processes; and what to tell the user about it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lehr import errors, logs
from lehr.errors import LaunchError, LehrError, StorageError
from lehr.store import Store

# What a worker raises when another one is gone: it tells nothing about the cause.
_COLLATERAL = re.compile(
    r"HorovodInternalError|UnavailableError|AbortedError|CancelledError|DeadlineExceededError"
    r"|Horovod has been shut down|[Cc]onnection (reset|closed) by peer|Collective ops is aborted"
)


# What says that memory ran out, by Ray's memory monitor, by Python, or by TensorFlow on a device.
_MEMORY = re.compile(
    r"OutOfMemory|\bMemoryError|ResourceExhaustedError|RESOURCE_EXHAUSTED|running low on memory"
    r"|NODE_OUT_OF_MEMORY"
)
_WORDLESS = re.compile(r"connection error code 2|End of file|killed by signal 9")

LEFT = "Left"  # the kind of a failure that is none
MEMORY = "OutOfMemory"  # the kind of one by Ray's memory monitor
LONGEST = 500  # letters of a line that is quoted


@dataclass(frozen=True)
class Failure:
    """Why one worker ended.

    Args:
        kind: name of the exception's class, or "Died" for a process that left no word.
        message: the letter, or one line.
        final: starting again would end the same way.
        host: the name of its host, where it is known.
    """

    kind: str
    message: str
    final: bool = False
    host: str = field(default="", compare=False)

    @property
    def collateral(self) -> bool:
        """True when it failed only because another worker did."""
        return is_collateral(f"{self.kind} {self.message}")

    @property
    def memory(self) -> bool:
        """True when memory ran out."""
        return bool(_MEMORY.search(f"{self.kind} {self.message}"))

    @property
    def storage(self) -> bool:
        """True when it was the storage that failed: it fails wherever the worker is."""
        known = getattr(errors, self.kind, None)
        return isinstance(known, type) and issubclass(known, StorageError)

    def document(self) -> dict[str, Any]:
        return asdict(self)


def is_collateral(message: str) -> bool:
    """Whether an error says no more than that another worker is gone."""
    return bool(_COLLATERAL.search(message))


def left(reason: str) -> Failure:
    """Of a worker that was asked to leave, left a checkpoint and is to be started anew."""
    return Failure(LEFT, reason)


class WorkerFailed(Exception):
    """Carries a Failure out of a worker: unlike TensorFlow's own exceptions, it can always be pickled."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        super().__init__(dict(document))
        self.failure = Failure(**document)


def of(error: BaseException) -> Failure:
    """The failure that `error` means, in the process where it happened.

    Our own errors would come again, but the store may recover. So would a GPU that is too small: what is on
    it is ours alone, while a host's memory is shared with others.
    """
    message = str(error) if isinstance(error, LehrError) else f"{type(error).__name__}: {error}".strip()
    own = isinstance(error, LehrError) and not isinstance(error, StorageError)
    small = bool(_MEMORY.search(message)) and "GPU" in message
    return Failure(type(error).__name__, message, own or small, os.uname().nodename)


def cause(failures: Mapping[int, Failure]) -> int:
    """The rank whose failure explains the others': a final one, else one that is not collateral.

    That a worker left as it was asked to explains nothing.
    """

    def order(rank: int) -> tuple[bool, bool, bool, int]:
        each = failures[rank]
        return not each.final, each.kind == LEFT, each.collateral, rank

    return min(failures, key=order)


def error(failures: Mapping[int, Failure], run: Store, *, url: str) -> LehrError:
    """What to raise before the user.

    Errors that lehr raised in the worker come back as they were. Others become a LaunchError with the last
    telling lines of the worker's log.

    Args:
        failures: by rank, of the last attempt.
        run: the run's folder in the store.
        url: of that folder.
    """
    rank = cause(failures)
    failure = failures[rank]
    known = getattr(errors, failure.kind, None)
    if isinstance(known, type) and issubclass(known, LehrError):
        return known(failure.message)
    attempt, tail = _log(run, rank)
    when = "" if attempt is None else f" in attempt {attempt}"
    where = f" on host {failure.host}" if failure.host else ""
    what = "ran out of memory" if failure.memory else "failed"
    lines = [f"worker {rank}{where} {what}{when}: {first_line(failure.message)}"]
    if tail:
        lines += ["  its last lines:", *(f"    {line}" for line in tail)]
    lines.append(f"  log: {url}/{'logs' if attempt is None else logs.key(rank, attempt)}")
    lines.append(f"  do: {_advice(failure)} and give the same command again: it goes on where it was")
    return LaunchError("\n".join(lines))


def _advice(failure: Failure) -> str:
    if failure.memory and "GPU" in failure.message:
        return "lower train.global_batch or use more workers, so that less lies on one GPU,"
    if failure.memory:
        return (
            "ask for the memory it needs (strategy.memory_gib_per_worker), lower train.global_batch, or put "
            "fewer workers on a host (strategy.placement: spread),"
        )
    if _WORDLESS.search(failure.message):
        return (
            "mend what the log tells (a process that ends without a word was killed, by somebody or by the "
            "kernel when the host ran out of memory: dmesg there tells)"
        )
    return "mend what the log tells"


def _log(run: Store, rank: int) -> tuple[int | None, list[str]]:
    """The last attempt that has a log, and the log's end; what the storage does not tell now is left out."""
    attempt = None
    try:
        attempt = logs.newest(run, rank)
        return attempt, logs.tail(run, rank, attempt)
    except StorageError:
        return attempt, []


def first_line(message: str) -> str:
    """What to quote of a message of many lines. It travels in workers' environments: a variable of 128 KiB
    would keep them from starting any process."""
    return message.strip().splitlines()[0][:LONGEST] if message.strip() else "it left no word"
