"""Where the workers of an attempt are, how their hosts do, and which hosts get no worker any more.

Ray Train's controller is one process for one run, so what is known here is the process's, as in
`lehr.leaving`: the failure policy, the rendezvous and the scaling policy all ask it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback
from ray.train.v2._internal.execution.controller.state import PreemptingState

from lehr import leaving
from lehr.launch.notes import Notes

SILENT_S = 5.0  # after which a worker that answers nothing is named
NODE = "ray.io/node-id"  # the label by which Ray places on a host, or away from it


@dataclass(frozen=True)
class Host:
    """A machine, as people call it. A host that comes back is the same one, with a new id of Ray's."""

    name: str
    address: str

    def __str__(self) -> str:
        return f"{self.name} ({self.address})" if self.name else self.address


@dataclass(frozen=True)
class Place:
    """Where a worker is: its host, and the id that Ray gave that host this time."""

    host: Host
    node: str


class Roster:
    """The attempt that runs now, as far as the controller knows."""

    def __init__(self) -> None:
        self.excluded: set[Host] = set()
        self.reason: dict[str, Any] = {}  # why the next attempt begins
        self.clear()

    def clear(self) -> None:
        """No worker is there."""
        self.group: Any = None
        self.places: dict[int, Place] = {}
        self.running: set[int] = set()
        self.silent: dict[int, float] = {}  # by rank, since when it answers nothing, in seconds since 1970
        self.leaving: set[Host] = set()  # hosts that are being taken away
        self.deadline = 0.0  # when they are gone, in seconds since 1970; 0.0: nobody said

    def enter(self, group: Any) -> None:
        """Take down who is where in a new group of workers."""
        self.clear()
        self.group = group
        for worker in group.get_workers():
            about = worker.metadata
            place = Place(Host(about.hostname, about.node_ip), about.node_id)
            self.places[worker.distributed_context.world_rank] = place
        self.running = set(self.places)

    def host(self, rank: int) -> Host | None:
        place = self.places.get(rank)
        return place.host if place else None

    def on(self, node: str) -> Host | None:
        """The host that Ray calls `node`, if a worker is there."""
        return next((place.host for place in self.places.values() if place.node == node), None)


OURS = Roster()


def nodes() -> list[dict[str, Any]]:
    """What Ray knows of all hosts that are or were in the cluster."""
    return list(ray.nodes())


def host_of(node: Mapping[str, Any]) -> Host:
    return Host(str(node["NodeManagerHostname"]), str(node["NodeManagerAddress"]))


def excluded() -> frozenset[str]:
    """Ids of the hosts that get no worker because too many failed there; asked anew each time, for a host
    that comes back has a new id."""
    if not OURS.excluded:
        return frozenset()
    return frozenset(node["NodeID"] for node in nodes() if node["Alive"] and host_of(node) in OURS.excluded)


def lost(place: Place) -> str | None:
    """Why Ray counts a host as dead; None when it is alive, "" when Ray does not say why."""
    for node in nodes():
        if node["NodeID"] == place.node and not node["Alive"]:
            return str(node.get("DeathReasonMessage", "")).strip()
    return None


def at(address: str) -> Host:
    """The host with this address."""
    found = [host_of(node) for node in nodes() if node["NodeManagerAddress"] == address]
    return found[-1] if found else Host("", address)


class Watch(WorkerGroupCallback, ControllerCallback):
    """Keeps the roster, says who is silent, asks workers to leave a host that is being taken away.

    Args:
        notes: to the driver.
    """

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._named: set[int] = set()  # silent ones of whom the driver knows

    # --- a group begins and ends ------------------------------------------------------------------

    def on_controller_start_worker_group(self, *, scaling_config: Any, num_workers: int) -> Any:
        """Clear away a group that died before it was whole: Ray forgets it, and the room that it holds."""
        if OURS.group is not None:
            with contextlib.suppress(Exception):
                OURS.group.shutdown()
            OURS.clear()

    def after_worker_group_start(self, worker_group: Any) -> None:
        OURS.enter(worker_group)
        self._named = set()

    def before_worker_group_shutdown(self, worker_group: Any) -> None:
        OURS.clear()

    # --- while it trains --------------------------------------------------------------------------

    def after_worker_group_poll_status(self, worker_group_status: Any) -> None:
        OURS.running = {rank for rank, each in worker_group_status.worker_statuses.items() if each.running}
        hanging = getattr(OURS.group, "_world_rank_to_ongoing_poll", {})
        for rank in sorted(OURS.running & set(hanging)):
            waited_s = time.monotonic() - hanging[rank].start_time
            OURS.silent.setdefault(rank, time.time() - waited_s)
            if waited_s > SILENT_S and rank not in self._named:
                self._named.add(rank)
                self._notes.say(f"{who(rank)} has not answered since {clock(OURS.silent[rank])}")
        for rank in (OURS.running - set(hanging)) & set(OURS.silent):
            since = OURS.silent.pop(rank)
            if rank in self._named:
                self._named.discard(rank)
                self._notes.say(f"{who(rank)} answers again, after {time.time() - since:.0f} s")

    def after_controller_state_update(self, previous_state: Any, current_state: Any) -> None:
        if isinstance(current_state, PreemptingState) and not isinstance(previous_state, PreemptingState):
            self._leave(current_state.preemption_info)

    def _leave(self, info: Any) -> None:
        """Ask all workers to make a checkpoint and end, for the host of some is being taken away."""
        OURS.deadline = (info.deadline_ms or 0) / 1000
        left = f", in {OURS.deadline - time.time():.0f} s" if OURS.deadline else ""
        OURS.leaving = {host for node in info.preempted_node_ids if (host := OURS.on(node))}
        names = ", ".join(sorted(map(str, OURS.leaving)))
        self._notes.say(f"host {names} is being taken away{left}: all workers save and leave")
        if OURS.group is not None:
            for worker in OURS.group.get_workers():
                worker.execute_async(leaving.ask, leaving.PREEMPTED)  # the dead among them do not answer


def who(rank: int) -> str:
    """A worker and its host."""
    host = OURS.host(rank)
    return f"worker {rank} on host {host}" if host else f"worker {rank}"


def clock(moment: float) -> str:
    return time.strftime("%H:%M:%SZ", time.gmtime(moment))
