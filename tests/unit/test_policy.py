"""What follows from a failure: budgets, who is waited for, which hosts are left out, what is said."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorDiedError
from ray.train import FailureConfig
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
)
from ray.train.v2._internal.execution.controller.state import PreemptingState, RunningState
from ray.train.v2._internal.execution.failure_handling import FailureDecision
from ray.train.v2.api.exceptions import ControllerError, PreemptionError, WorkerGroupError
from ray.train.v2.api.preemption import PreemptionInfo

import jobs
from lehr import journal, leaving
from lehr.fence import Fence
from lehr.launch import backends, failure, hosts, policy
from lehr.launch.failure import Failure, WorkerFailed
from lehr.launch.hosts import Host, Place, Roster, Watch
from lehr.launch.notes import Notes
from lehr.launch.policy import Policy
from lehr.launch.standstill import HUNG
from lehr.worker import report

RETRY, RAISE, NOOP = FailureDecision.RETRY, FailureDecision.RAISE, FailureDecision.NOOP
H2, H3 = Host("h2", "10.77.1.2"), Host("h3", "10.77.1.3")
LOST = Failure("HorovodInternalError", "HorovodInternalError: Connection reset by peer")
DEFECT = Failure("ValueError", "ValueError: shapes differ")
FINAL = Failure("UserError", "data.root: nothing is there", final=True)
PREEMPTED, RESIZED = failure.left(leaving.PREEMPTED), failure.left(leaving.RESIZED)


def node(host: Host, number: str, *, alive: bool = True, cpus: float = 1.0, why: str = "") -> dict[str, Any]:
    """A row of `ray.nodes()`."""
    return {
        "NodeID": number,
        "Alive": alive,
        "NodeManagerHostname": host.name,
        "NodeManagerAddress": host.address,
        "DeathReasonMessage": why,
        "Resources": {"CPU": cpus} if cpus else {},
    }


class World:
    """A run with worker 0 on h2 and worker 1 on h3."""

    def __init__(self, folder: Path) -> None:
        self.notes, self.folder, self.time = Notes(str(folder)), folder, 1000.0
        self.nodes = [node(Host("h1", "10.77.1.1"), "n1", cpus=0.0), node(H2, "n2"), node(H3, "n3")]
        self.start()

    def start(self) -> None:
        """A new group of workers."""
        hosts.OURS.clear()
        hosts.OURS.places = {0: Place(H2, "n2"), 1: Place(H3, "n3")}
        hosts.OURS.running = {0, 1}

    def policy(self, *, failures: int = 3, preemptions: int = 2, exclude_after: int | None = None) -> Policy:
        limits = FailureConfig(max_failures=failures, max_preemption_failures=preemptions)
        return Policy(limits, self.notes, exclude_after=exclude_after, now=lambda: self.time)

    def said(self) -> list[str]:
        file = self.folder / "said.txt"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(hosts, "OURS", Roster())
    world = World(tmp_path)
    monkeypatch.setattr(hosts, "nodes", lambda: world.nodes)
    return world


def failed(*, end: bool = True, **ranks: Failure | Exception) -> WorkerGroupError:
    """What Ray Train says when workers failed, as `r1=DEFECT`; with `end` all others have ended, too."""
    errors = {
        int(name[1:]): WorkerFailed(each.document()) if isinstance(each, Failure) else each
        for name, each in ranks.items()
    }
    if end:
        hosts.OURS.running = set()
    return WorkerGroupError("", errors)


def taken(*ranks: int) -> PreemptionError:
    return PreemptionError(PreemptionInfo(deadline_ms=None, preempted_node_to_ranks={"n3": list(ranks)}))


def died(text: str = "Worker exit type: SYSTEM_ERROR Worker exit detail: End of file.") -> Exception:
    return WorkerHealthCheckFailedError(f"A worker health check failed.\nhostname='h3',\n{text}", OSError())


# A history of errors, and what the policy answers to each, with 2 failures and 1 preemption allowed.
HISTORIES = {
    "failures alone": ([DEFECT, DEFECT, DEFECT], [RETRY, RETRY, RAISE]),
    "preemptions alone": ([PREEMPTED, PREEMPTED], [RETRY, RAISE]),
    "budgets are apart": (
        [DEFECT, PREEMPTED, DEFECT, RESIZED, RESIZED, RESIZED, PREEMPTED],
        [RETRY, RETRY, RETRY, RETRY, RETRY, RETRY, RAISE],
    ),
    "growing is no failure": ([RESIZED] * 9, [RETRY] * 9),
    "a mistake ends at once": ([RESIZED, FINAL], [RETRY, RAISE]),
    "room that was taken is no failure": (
        [ControllerError(WorkerGroupStartupTimeoutError(2)), DEFECT, DEFECT],
        [RETRY, RETRY, RETRY],
    ),
    "a host that dies at the start is one": (
        [ControllerError(WorkerGroupStartupFailedError("x")), DEFECT, DEFECT],
        [RETRY, RETRY, RAISE],
    ),
    "Ray's own notice": ([taken(1), PREEMPTED], [RETRY, RAISE]),
    "what else breaks in the controller": ([ControllerError(ValueError("x"))], [RAISE]),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_budgets(name: str, world: World) -> None:
    history, answers = HISTORIES[name]
    policy = world.policy(failures=2, preemptions=1)
    given = []
    for each in history:
        world.start()
        error = failed(r0=each, r1=each) if isinstance(each, Failure) else each
        given.append(policy.make_decision(error))
    assert given == answers


def test_limit_of_zero_gives_up_at_the_first(world: World) -> None:
    assert world.policy(failures=0).make_decision(failed(r1=DEFECT)) == RAISE
    assert world.policy(preemptions=0).make_decision(failed(r0=PREEMPTED)) == RAISE


def test_room_that_is_always_taken_ends_the_run(world: World) -> None:
    chosen, error = world.policy(), ControllerError(WorkerGroupStartupTimeoutError(2))
    assert [chosen.make_decision(error) for _ in range(policy.STARTS)] == [RETRY] * policy.STARTS
    assert chosen.make_decision(error) == RAISE
    assert "21 times in a row no room for 2 workers" in world.notes.verdict()


def test_room_that_was_taken_is_not_why_the_next_attempt_begins(world: World) -> None:
    chosen = world.policy()
    chosen.make_decision(failed(r1=DEFECT))
    chosen.make_decision(ControllerError(WorkerGroupStartupTimeoutError(2)))
    assert hosts.OURS.reason["cause"] == "failed"


# --- who is waited for ----------------------------------------------------------------------------


def test_checkpoint_of_those_that_leave_is_waited_for(world: World) -> None:
    policy = world.policy()
    early = failed(r1=PREEMPTED, end=False)  # rank 0 still commits
    assert policy.make_decision(early) == NOOP
    assert world.said() == []
    assert policy.make_decision(failed(r0=PREEMPTED, r1=PREEMPTED)) == RETRY


def test_those_that_leave_have_until_their_host_is_gone(world: World) -> None:
    policy, early = world.policy(), failed(r1=PREEMPTED, end=False)
    hosts.OURS.deadline = world.time + 20.0
    world.time += 49.0
    assert policy.make_decision(early) == NOOP
    world.time += 2.0
    assert policy.make_decision(early) == RETRY


def test_word_of_the_one_that_is_gone_is_waited_for(world: World) -> None:
    policy = world.policy(exclude_after=1)
    assert policy.make_decision(failed(r0=LOST, end=False)) == NOOP
    assert policy.make_decision(failed(r0=LOST, r1=died(), end=False)) == RETRY
    assert hosts.OURS.excluded == {H3}  # not h2, whose worker only told of it


def test_silent_worker_is_heard_out_when_another_one_breaks_off(world: World) -> None:
    policy = world.policy(exclude_after=1)
    hosts.OURS.silent[1] = world.time - 30.0
    broken = Failure("Died", "its process ended: abort in a library that waited for the other")
    assert policy.make_decision(failed(r0=broken, end=False)) == NOOP
    world.nodes[2] = node(H3, "n3", alive=False, why="missed heartbeats")
    assert policy.make_decision(failed(r0=broken, r1=died())) == RETRY
    assert hosts.OURS.excluded == {H3}  # a lost host explains all the rest


def test_nobody_waits_for_ever(world: World) -> None:
    chosen, error = world.policy(exclude_after=1), failed(r0=LOST, end=False)
    assert chosen.make_decision(error) == NOOP
    world.time += policy.CAUSE_S + 1.0
    assert chosen.make_decision(error) == RETRY
    assert hosts.OURS.excluded == set()  # nobody knows whose doing it was


def test_a_mistake_is_not_waited_with(world: World) -> None:
    assert world.policy().make_decision(failed(r0=LOST, r1=FINAL, end=False)) == RAISE


def test_watchdogs_word_is_acted_upon_at_once(world: World) -> None:
    hosts.OURS.silent[1] = world.time - 30.0  # it does not answer, either
    hung = Failure(HUNG, "rank 0 hangs; its last words: Connection reset by peer")
    assert world.policy().make_decision(failed(r0=hung, end=False)) == RETRY


# --- what is said ---------------------------------------------------------------------------------


def test_lost_host_is_told_from_a_dead_process(world: World) -> None:
    policy = world.policy()
    policy.make_decision(failed(r1=died()))
    world.start()
    world.nodes[2] = node(H3, "n3", alive=False, why="health check failed due to missing too many heartbeats")
    hosts.OURS.silent[1] = 1000.0
    policy.make_decision(failed(r0=LOST, r1=died()))
    process, host = world.said()
    assert process == (
        "worker 1 on host h3 (10.77.1.3) failed: its process ended: SYSTEM_ERROR, End of file.; "
        "another attempt follows (failures 1 of 3)"
    )
    assert host == (
        "host h3 (10.77.1.3) with worker 1 is lost, silent since 00:16:40Z: health check failed due to "
        "missing too many heartbeats; another attempt follows (failures 2 of 3)"
    )


def test_reason_reaches_the_next_attempt(world: World) -> None:
    world.policy().make_decision(failed(r1=DEFECT))
    assert hosts.OURS.reason == {
        "message": "worker 1 on host h3 (10.77.1.3) failed: ValueError: shapes differ (failures 1 of 3)",
        "cause": "failed",
        "host": "h3",
        "address": "10.77.1.3",
        "noticed": 1000.0,
        "rank": 1,
    }


def test_reason_fits_into_an_environment_however_long_the_error(world: World) -> None:
    world.policy().make_decision(failed(r1=Failure("ValueError", "x" * 1_000_000)))
    assert len(json.dumps(hosts.OURS.reason)) < 2000  # Linux: 128 KiB a variable, or no process starts
    assert len(world.said()[0]) < 2000


def test_journal_of_the_next_attempt_begins_with_the_reason(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.policy().make_decision(failed(r1=DEFECT))
    monkeypatch.setenv(backends.REASON, json.dumps(hosts.OURS.reason))
    run = jobs.storage(tmp_path / "runs").below("ebm")
    plan = jobs.plan(jobs.EBM, "tracking.wandb=null")
    told = report.Report(plan, run, 1, Fence(run, 1))
    told.start(7)
    told.close(7, "left", patience_s=10.0)
    (why,) = (entry for entry in journal.read(run) if entry["type"] == "event")
    assert (why["event"], why["host"], why["cause"], why["rank"]) == ("restarted", "h3", "failed", 1)


def test_spent_budget_is_told_with_its_hosts(world: World) -> None:
    policy = world.policy(failures=2)
    for rank in (1, 0, 1):
        world.start()
        policy.make_decision(failed(**{f"r{rank}": DEFECT}))
    assert world.notes.verdict() == (
        "recovery.max_failures: 3 failures, and 2 are allowed: 2 on h3 (10.77.1.3), 1 on h2 (10.77.1.2)\n"
        "  do: mend what the log tells, or raise recovery.max_failures, and give the same command again: it "
        "goes on where it was"
    )
    assert world.said()[-1].endswith("failed: ValueError: shapes differ; given up (failures 3 of 2)")


def test_worker_that_dies_at_the_start_is_found_by_its_address(world: World) -> None:
    error = WorkerGroupStartupFailedError("At least one of the worker actors failed to initialize.")
    error.__cause__ = ActorDiedError()
    error.__cause__.error_msg = "The actor died unexpectedly.\n\tip: 10.77.1.3\nThe node has died."
    world.policy(exclude_after=1).make_decision(ControllerError(error))
    assert hosts.OURS.excluded == {H3}


# --- hosts that are left out ----------------------------------------------------------------------


def test_host_is_left_out_after_so_many_failures(world: World) -> None:
    policy = world.policy(failures=9, exclude_after=2)
    for rank in (1, 0):
        world.start()
        policy.make_decision(failed(**{f"r{rank}": DEFECT}))
    assert hosts.excluded() == frozenset()
    world.start()
    policy.make_decision(failed(r1=DEFECT))
    assert hosts.excluded() == {"n3"}
    assert "host h3 (10.77.1.3) is excluded: 2 failures there (recovery.exclude_after)" in world.said()


def test_host_that_comes_back_is_still_left_out(world: World) -> None:
    hosts.OURS.excluded.add(H3)
    world.nodes[2] = node(H3, "n3", alive=False)
    world.nodes.append(node(H3, "n9"))
    assert hosts.excluded() == {"n9"}


@pytest.mark.parametrize("kind", ["StorageError", "StorageDenied"])
def test_storage_that_fails_is_held_against_no_host(world: World, kind: str) -> None:
    policy = world.policy(failures=1, exclude_after=1)
    away = Failure(kind, "s3://bucket/runs: it does not answer")
    assert policy.make_decision(failed(r0=LOST, r1=away)) == RETRY
    assert hosts.OURS.excluded == set()
    assert hosts.OURS.reason["host"] == "h3", "where it was seen is told all the same"
    world.start()
    assert policy.make_decision(failed(r1=away)) == RAISE, "it is a failure"


def test_a_host_that_is_lost_while_storage_fails_counts(world: World) -> None:
    world.nodes[2] = node(H3, "n3", alive=False, why="missed heartbeats")
    world.policy(exclude_after=1).make_decision(failed(r1=Failure("StorageError", "it is away")))
    assert hosts.OURS.excluded == {H3}


def test_preemptions_exclude_nobody(world: World) -> None:
    policy = world.policy(preemptions=9, exclude_after=1)
    for _ in range(3):
        world.start()
        policy.make_decision(failed(r1=PREEMPTED))
    assert hosts.OURS.excluded == set()


def test_run_ends_when_no_host_is_left(world: World) -> None:
    policy = world.policy(failures=9, exclude_after=1)
    assert policy.make_decision(failed(r1=DEFECT)) == RETRY
    world.start()
    assert policy.make_decision(failed(r0=DEFECT)) == RAISE  # the head has no CPUs
    assert world.notes.verdict().startswith("recovery.exclude_after: all hosts are excluded: 1 failures on h")


# --- the watch over hosts -------------------------------------------------------------------------


class Group:
    """As much of Ray Train's group of workers as the watch sees."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self._world_rank_to_ongoing_poll: dict[int, Any] = {}
        self.is_shut = False

    def get_workers(self) -> list[Any]:
        return [self._worker(0, H2, "n2"), self._worker(1, H3, "n3")]

    def _worker(self, rank: int, host: Host, number: str) -> Any:
        return SimpleNamespace(
            metadata=SimpleNamespace(hostname=host.name, node_ip=host.address, node_id=number),
            distributed_context=SimpleNamespace(world_rank=rank),
            execute_async=lambda function, *words: self.asked.append((rank, function, *words)),
        )

    def shutdown(self) -> None:
        self.is_shut = True


def test_all_workers_are_asked_to_leave_a_host_that_is_taken_away_once(world: World) -> None:
    watch, group = Watch(world.notes), Group()
    watch.after_worker_group_start(group)
    info = PreemptionInfo(deadline_ms=int(1000 * time.time() + 30_000), preempted_node_to_ranks={"n3": [1]})
    taking = PreemptingState(preemption_info=info, detected_at_s=0.0)
    watch.after_controller_state_update(RunningState(), taking)
    watch.after_controller_state_update(taking, taking)
    assert group.asked == [(rank, leaving.ask, leaving.PREEMPTED) for rank in (0, 1)]
    assert world.said()[0].startswith("host h3 (10.77.1.3) is being taken away, in ")
    world.policy().make_decision(failed(r0=PREEMPTED, r1=PREEMPTED))
    assert "host h3 (10.77.1.3) was taken away with notice; another attempt follows" in world.said()[1]


def test_silent_worker_is_named_once_and_heard_again(world: World) -> None:
    watch, group = Watch(world.notes), Group()
    watch.after_worker_group_start(group)
    alive = SimpleNamespace(worker_statuses=dict.fromkeys((0, 1), SimpleNamespace(running=True)))
    group._world_rank_to_ongoing_poll = {1: SimpleNamespace(start_time=time.monotonic() - 6.0)}
    for _ in range(3):
        watch.after_worker_group_poll_status(alive)
    group._world_rank_to_ongoing_poll = {}
    watch.after_worker_group_poll_status(alive)
    named, back = world.said()
    assert named.startswith("worker 1 on host h3 (10.77.1.3) has not answered since ")
    assert back.startswith("worker 1 on host h3 (10.77.1.3) answers again, after ")


def test_group_that_never_became_whole_gives_its_room_back(world: World) -> None:
    watch, group = Watch(world.notes), Group()
    watch.after_worker_group_start(group)
    watch.on_controller_start_worker_group(scaling_config=SimpleNamespace(), num_workers=2)
    assert group.is_shut
    assert hosts.OURS.group is None


# --- to the driver --------------------------------------------------------------------------------


def test_driver_hears_every_line_once_and_in_order(tmp_path: Path) -> None:
    notes, heard = Notes(str(tmp_path)), list[str]()
    with notes.heard(heard.append):
        notes.say("one")
        time.sleep(1.2)
        notes.say("two")
    assert heard == ["one", "two"]


def test_no_verdict_is_none(tmp_path: Path) -> None:
    assert Notes(str(tmp_path)).verdict() == ""
