"""When a group of workers counts as hung, and which of them the others wait for: from signs of life alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lehr.vitals import PHASES

HUNG = "Hung"  # the kind of such a failure
# One that computes uses at least this share of a processor and this many times what any that waits uses. How
# much it gets depends on who else is on its host; that those who wait hardly use any does not.
BUSY, TIMES = 0.15, 4.0


@dataclass(frozen=True)
class Limits:
    """How long nothing may change.

    Args:
        hang_s: in training.
        start_s: before the first step of an attempt is done, and at its end: there a worker compiles, reads
            its checkpoint, waits for the storage.
    """

    hang_s: float
    start_s: float


@dataclass(frozen=True)
class Verdict:
    """That the group hangs.

    Args:
        culprits: ranks that the others wait for; all ranks where nobody can tell.
        silent: those of them that do not even answer.
        known: whether the culprits could be told from the others.
        message: who, where, since when; one line.
    """

    culprits: tuple[int, ...]
    silent: tuple[int, ...]
    known: bool
    message: str


@dataclass
class _Worker:
    host: str
    heard_at: float  # its last answer, or the beginning
    changed_at: float
    sign: Mapping[str, Any] | None = None
    used_s: float = 0.0  # of its processors when it changed last

    def hear(self, sign: Mapping[str, Any], now: float) -> None:
        if self.sign is None or _mark(sign) != _mark(self.sign):
            self.changed_at, self.used_s = now, sign["cpu_s"]
        self.sign, self.heard_at = sign, now

    @property
    def phase(self) -> str:
        return self.sign["phase"] if self.sign else "start"

    @property
    def place(self) -> tuple[int, int]:
        """How far it has come; those that wait for each other wait for the one that came least far."""
        return (self.sign["step"] if self.sign else 0, PHASES.index(self.phase))

    def share(self) -> float:
        """Of a processor, used since it changed last."""
        seconds = self.heard_at - self.changed_at
        return (self.sign["cpu_s"] - self.used_s) / seconds if self.sign and seconds > 0 else 0.0


def _mark(sign: Mapping[str, Any]) -> tuple[Any, ...]:
    """What changes while a worker gets on; one at its end waits for its uploads."""
    sent = sign["uploaded_bytes"] if sign["phase"] == "end" else 0
    return sign["step"], sign["phase"], sign["since"], sent


@dataclass
class Standstill:
    """Hears the workers' signs and says when all of them stand still. The clock is the caller's.

    Args:
        limits: after how long.
        hosts: where each rank is.
        began: when the attempt did.
    """

    limits: Limits
    hosts: Sequence[str]
    began: float
    _workers: list[_Worker] = field(init=False)

    def __post_init__(self) -> None:
        self._workers = [_Worker(host, self.began, self.began) for host in self.hosts]

    def hear(self, rank: int, sign: Mapping[str, Any], now: float) -> None:
        """A worker answered."""
        self._workers[rank].hear(sign, now)

    def look(self, running: Iterable[int], now: float) -> Verdict | None:
        """The verdict on those that still run; None while anybody gets on, or a pause is why nobody does.

        One that answered before and does not any more is none that gets on, whatever it was doing.
        """
        ranks = sorted(running)
        gone = any(
            self._workers[rank].sign and self._quiet_s(rank, now) > self.limits.hang_s for rank in ranks
        )
        still = all(now - self._workers[rank].changed_at > self._limit(rank) for rank in ranks)
        if not ranks or not (gone or still):
            return None
        silent = tuple(rank for rank in ranks if self._is_silent(rank, now))
        culprits = silent or self._last(ranks) or self._busy(ranks)
        known = bool(culprits) or len(ranks) == 1
        culprits = culprits or tuple(ranks)
        return Verdict(culprits, silent, known, self._message(ranks, culprits, silent, now))

    def _limit(self, rank: int) -> float:
        worker, limits = self._workers[rank], self.limits
        if worker.phase == "pause":
            return math.inf
        if worker.sign is None or worker.phase in ("start", "end") or not worker.sign["warm"]:
            return limits.start_s
        return limits.hang_s

    def _quiet_s(self, rank: int, now: float) -> float:
        return now - self._workers[rank].heard_at

    def _is_silent(self, rank: int, now: float) -> bool:
        return self._quiet_s(rank, now) > self.limits.hang_s / 2

    def _last(self, ranks: Sequence[int]) -> tuple[int, ...]:
        """Those that came least far; () when all came equally far."""
        places = {rank: self._workers[rank].place for rank in ranks}
        last = tuple(rank for rank in ranks if places[rank] == min(places.values()))
        return last if len(last) < len(ranks) else ()

    def _busy(self, ranks: Sequence[int]) -> tuple[int, ...]:
        """Those that compute while all others wait; () when that does not tell them apart."""
        shares = {rank: self._workers[rank].share() for rank in ranks}
        by_share = sorted(ranks, key=lambda rank: shares[rank], reverse=True)
        for count, (rank, following) in enumerate(itertools.pairwise(by_share), start=1):
            if shares[rank] >= max(BUSY, TIMES * shares[following]):
                return tuple(sorted(by_share[:count]))
        return ()

    # --- in words ---------------------------------------------------------------------------------

    def _message(
        self, ranks: Sequence[int], culprits: Sequence[int], silent: Sequence[int], now: float
    ) -> str:
        others = [rank for rank in ranks if rank not in culprits]
        if not others and len(ranks) > 1 and not silent:
            state = self._workers[ranks[0]]
            still_s = min(now - self._workers[rank].changed_at for rank in ranks)
            return (
                f"no progress for {still_s:.0f} s: {_ranks(ranks)} are all {_where(state)}, and nothing "
                "tells which of them hangs"
            )
        idle = min((self._workers[rank].share() for rank in others), default=0.0)
        said = "; ".join(self._word(rank, now, is_silent=rank in silent, idle=idle) for rank in culprits)
        return said + (f"; {_ranks(others)} {'wait' if len(others) > 1 else 'waits'}" if others else "")

    def _word(self, rank: int, now: float, *, is_silent: bool, idle: float) -> str:
        worker = self._workers[rank]
        if worker.sign is None:
            return f"rank {rank} on {worker.host} has not answered in {now - worker.heard_at:.0f} s"
        if is_silent:
            return (
                f"rank {rank} on {worker.host} does not answer since {now - worker.heard_at:.0f} s; when it "
                f"last did, it was {_where(worker)}"
            )
        # On a full host those that wait use a share, too: Horovod's own thread wakes up every millisecond.
        busy = ", computing" if worker.share() >= max(BUSY, TIMES * idle) else ""
        return f"rank {rank} on {worker.host} is {_where(worker)}{busy} since {now - worker.changed_at:.0f} s"


def _where(worker: _Worker) -> str:
    step, _ = worker.place
    words = {"start": "starting", "between": "between steps", "end": "ending"}
    return f"at step {step} {words.get(worker.phase, f'in {worker.phase}')}"


def _ranks(ranks: Sequence[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} " + ", ".join(map(str, ranks))
