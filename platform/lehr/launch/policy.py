"""What follows from a failure: another attempt, or the end. Ray Train's controller asks.

Three budgets, all of one launch: failures, hosts taken away with notice, and none for workers that left
because there is room for more. What would fail the same way again ends the run at once.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ray.exceptions import RayError
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError
from ray.train.v2._internal.execution.failure_handling import FailureDecision, FailurePolicy
from ray.train.v2._internal.execution.failure_handling.default import _is_preemption_failure
from ray.train.v2.api.exceptions import PreemptionError

from lehr.errors import letter
from lehr.launch import failure, hosts, train
from lehr.launch.failure import LEFT, Failure
from lehr.launch.hosts import Host
from lehr.launch.notes import Notes
from lehr.launch.standstill import HUNG
from lehr.leaving import RESIZED

# How long the word of a worker that is gone is waited for, when others only say that one is, or when it does
# not answer. Ray's verdict on a host whose link is cut takes up to 65 s with Ray's own settings.
CAUSE_S = 75.0
LEAVE_S = 120.0  # that workers which leave may need after the first of them has ended
GONE_S = 30.0  # the same, after the moment at which their host is taken away
STARTS = 20  # in a row that room may be taken by others between a look and the start

FAILED, TAKEN, LARGER, NO_ROOM, FINAL = "failed", "preempted", "resized", "no room", "final"
_STARTING = (WorkerGroupStartupFailedError, RayError)  # a host that dies while workers start
_NO_ROOM = "see with `ray status` who takes it, and give the same command again: it goes on where it was"
_IP = re.compile(r"^\s*ip: (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Case:
    """What an error means.

    Args:
        kind: FAILED, TAKEN, LARGER, NO_ROOM or FINAL.
        text: in one line, with the host.
        hosts: where it happened; none where nobody knows.
        rank: of the worker that explains the others' end; None where it is about none of them.
        theirs: whether it counts against these hosts.
    """

    kind: str
    text: str
    hosts: tuple[Host, ...] = ()
    rank: int | None = None
    theirs: bool = True


@dataclass
class Count:
    """One budget: how often, and where."""

    name: str
    limit: int
    spent: int = 0
    where: Counter[str] = field(default_factory=Counter)

    def add(self, places: tuple[Host, ...]) -> bool:
        """Count one; whether the budget still holds."""
        self.spent += 1
        self.where.update(str(host) for host in places)
        return self.spent <= self.limit

    def __str__(self) -> str:
        return f"{self.name} {self.spent} of {self.limit}"


class Policy(FailurePolicy):
    """Counts, decides, and says why.

    Args:
        failure_config: of the trainer; has both limits.
        notes: to the driver.
        exclude_after: failures on one host after which no worker is placed there; None: never.
        now: a clock, in seconds since 1970.
    """

    def __init__(
        self, failure_config: Any, notes: Notes, *, exclude_after: int | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        super().__init__(failure_config)
        self._notes, self._exclude_after, self._now = notes, exclude_after, now
        self._failures = Count("failures", failure_config.max_failures)
        self._preemptions = Count("preemptions", failure_config.max_preemption_failures)
        self._starts = 0  # in a row that came to nothing
        self._on: Counter[Host] = Counter()  # failures
        self._since: float | None = None  # when the first worker of this attempt ended

    def make_decision(self, training_failed_error: Any) -> FailureDecision:
        failures = train.failures_of(training_failed_error)
        if self._waits(failures):
            return FailureDecision.NOOP  # looked at again with the next look at the workers
        self._since = None
        case = judge(training_failed_error, failures)
        verdict, counted = self._count(case)
        if verdict:
            self._notes.end(verdict)
            self._notes.say(f"{case.text}; given up ({counted})")
            return FailureDecision.RAISE
        if case.kind == FINAL:
            return FailureDecision.RAISE  # the letter says it all
        self._notes.say(f"{case.text}; another attempt follows ({counted})")
        if case.kind != NO_ROOM:  # what came before is why the next one begins
            hosts.OURS.reason = document(case, counted, self._now())
        return FailureDecision.RETRY

    def _waits(self, failures: Mapping[int, Failure]) -> bool:
        """Whether those who have not ended yet may still tell more, or have work to finish."""
        others = hosts.OURS.running - set(failures)
        at_once = any(each.final or each.kind == HUNG for each in failures.values())
        if not failures or not others or at_once:  # of one that hangs, the watchdog tells once
            return False
        now = self._now()
        self._since = now if self._since is None else self._since
        if any(each.kind == LEFT for each in failures.values()):  # a checkpoint may be on its way
            gone = hosts.OURS.deadline + GONE_S if hosts.OURS.deadline else 0.0
            return now < (gone or self._since + LEAVE_S)
        collateral = all(each.collateral for each in failures.values())
        silent = any(now - hosts.OURS.silent.get(rank, now) > hosts.SILENT_S for rank in others)
        return (collateral or silent) and now < self._since + CAUSE_S

    def _count(self, case: Case) -> tuple[str, str]:
        """The letter with which the run ends, or ""; and how the budget stands."""
        self._starts = self._starts + 1 if case.kind == NO_ROOM else 0
        if self._starts > STARTS:
            return letter("ray", f"{self._starts} times in a row {case.text}", do=_NO_ROOM), "no failure"
        if case.kind == FAILED:
            return self._fail(case)
        if case.kind == TAKEN:
            holds = self._preemptions.add(case.hosts)
            do = "raise recovery.max_preemptions, or use hosts that stay"
            verdict = "" if holds else _spent(self._preemptions, key="recovery.max_preemptions", do=do)
            return verdict, str(self._preemptions)
        return "", "counts as no failure"

    def _fail(self, case: Case) -> tuple[str, str]:
        holds = self._failures.add(case.hosts)
        if not holds:
            do = "mend what the log tells, or raise recovery.max_failures"
            return _spent(self._failures, key="recovery.max_failures", do=do), str(self._failures)
        for host in case.hosts if case.theirs else ():
            self._on[host] += 1
            if self._exclude_after is not None and self._on[host] == self._exclude_after:
                hosts.OURS.excluded.add(host)
                self._notes.say(
                    f"host {host} is excluded: {self._on[host]} failures there (recovery.exclude_after)"
                )
        return _none_left(self._failures), str(self._failures)


def judge(error: Any, failures: Mapping[int, Failure]) -> Case:
    """What an error of Ray Train's means; `failures` are its workers' own words, by rank."""
    if isinstance(error, PreemptionError):
        ranks = error.preemption_info.preempted_ranks
        return Case(TAKEN, *_taken(ranks))
    if not failures:
        return _of_controller(getattr(error, "controller_failure", error))
    rank = failure.cause(failures)
    if failures[rank].final:
        return Case(FINAL, failures[rank].message, rank=rank)
    if left := [each for each in failures.values() if each.kind == LEFT]:
        if any(each.message == RESIZED for each in left):
            return Case(LARGER, "the workers left: there is room for more")
        return Case(TAKEN, *_taken([]))
    if _is_preemption_failure(error):
        gone = [r for r, each in failures.items() if each.kind != LEFT and not each.collateral]
        return Case(TAKEN, *_taken(gone))
    rank = next((each for each in sorted(failures) if _lost(each) is not None), rank)
    return _of_worker(rank, failures[rank])  # that a host is lost explains all the rest


def _lost(rank: int) -> str | None:
    """Why the host of a worker is dead; None when it is not, or nobody knows where the worker was."""
    place = hosts.OURS.places.get(rank)
    return hosts.lost(place) if place else None


def _taken(ranks: list[int]) -> tuple[str, tuple[Host, ...]]:
    known = {hosts.OURS.host(rank) for rank in ranks} or set(hosts.OURS.leaving)
    places = tuple(sorted((host for host in known if host), key=str))
    return f"host {', '.join(map(str, places)) or '(unknown)'} was taken away with notice", places


def _of_worker(rank: int, each: Failure) -> Case:
    place, why = hosts.OURS.places.get(rank), _lost(rank)
    if place is None or (each.collateral and why is None):  # nobody knows whose doing it was
        return Case(FAILED, f"worker {rank} failed: {failure.first_line(each.message)}", rank=rank)
    if why is not None:
        since = hosts.OURS.silent.get(rank)
        silent = f", silent since {hosts.clock(since)}" if since else ""
        said = f"host {place.host} with worker {rank} is lost{silent}: {why or 'Ray does not say why'}"
        return Case(FAILED, said, (place.host,), rank)
    said = f"worker {rank} on host {place.host} failed: {failure.first_line(each.message)}"
    return Case(FAILED, said, (place.host,), rank, theirs=not each.storage)


def _of_controller(error: BaseException) -> Case:
    if isinstance(error, WorkerGroupStartupTimeoutError):
        return Case(NO_ROOM, f"no room for {error.num_workers} workers: it was taken meanwhile")
    if not isinstance(error, _STARTING):
        return Case(FINAL, str(error))
    inner = error.__cause__ or error
    found = _IP.search(str(inner))
    places = (hosts.at(found[1]),) if found else ()
    where = f" on host {places[0]}" if places else ""
    return Case(FAILED, f"a worker{where} did not start: {train.reason(str(inner))}", places)


def document(case: Case, counted: str, moment: float) -> dict[str, Any]:
    """The event with which the next attempt's journal begins."""
    said = {
        "message": f"{case.text} ({counted})",
        "cause": case.kind,
        "host": ", ".join(host.name for host in case.hosts),
        "address": ", ".join(host.address for host in case.hosts),
        "noticed": round(moment, 3),
    }
    return said if case.rank is None else said | {"rank": case.rank}


def _spent(count: Count, *, key: str, do: str) -> str:
    where = ", ".join(f"{number} on {host}" for host, number in count.where.most_common())
    told = f"{count.spent} {count.name}, and {count.limit} are allowed" + (f": {where}" if where else "")
    return letter(key, told, do=f"{do}, and give the same command again: it goes on where it was")


def _none_left(count: Count) -> str:
    """A letter when every host that could train is excluded."""
    if not hosts.OURS.excluded:
        return ""
    able = [node for node in hosts.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    if not able or any(hosts.host_of(node) not in hosts.OURS.excluded for node in able):
        return ""
    return letter(
        "recovery.exclude_after",
        "all hosts are excluded: "
        + ", ".join(f"{number} {count.name} on {host}" for host, number in count.where.most_common()),
        do="mend the hosts or what the logs tell, or raise recovery.exclude_after, and give the same command "
        "again: it goes on where it was",
    )
