"""How many workers the next attempt has, and when: what Ray Train's controller asks between attempts."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ray.train.v2._internal.execution.scaling_policy import (
    NoopDecision,
    ResizeDecision,
    ScalingDecision,
    ScalingPolicy,
)
from ray.train.v2._internal.execution.scaling_policy.fixed import FixedScalingPolicy

from lehr import leaving
from lehr.errors import LaunchError
from lehr.launch import census, hosts, room
from lehr.launch.room import Room
from lehr.launch.waiting import Waiting

BEAT_S = 0.5  # between two looks while there is no room
LOOK_S = 2.0  # the same while workers train
GROW_S = 30.0  # that there must be room for more workers before a group is restarted for it
GROWING = "LEHR_GROW_S"  # in the driver's environment: other seconds
_EXCLUDED = "is excluded"


class Fixed(FixedScalingPolicy):
    """The number of workers asked for, on a cluster that has room for them and does not grow."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Ray would register here with its autoscaler."""

    def _maybe_send_resource_request(self) -> None:
        return None


@dataclass(frozen=True)
class View:
    """How a policy sees the cluster; tests have one of their own.

    Args:
        take: the hosts.
        knocked: the same without those that do not answer.
        held: what a group of workers holds, by host.
        release: gives that back.
        excluded: hosts that get no worker any more.
        now: a clock.
        sleep: waits.
    """

    take: Callable[[], Room] = census.take
    knocked: Callable[[Room], Room] = census.knocked
    held: Callable[[Any], Mapping[str, Mapping[str, float]]] = census.held
    release: Callable[[Any], None] = census.release
    excluded: Callable[[], frozenset[str]] = hosts.excluded
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def grow_s() -> float:
    """For how long there must be room for more workers, as this process's environment says."""
    return float(os.environ.get(GROWING, GROW_S))


class Elastic(ScalingPolicy):
    """As many workers as the plan allows and the cluster has room for; none before there is room.

    A job that is not elastic allows one number. Ray itself would ask for a group whether there is room or
    not, and count a failure a minute until there is.

    Args:
        config: of the trainer: what each worker asks for, and the most workers.
        sizes: numbers of workers that an attempt may have, least first.
        waiting: says what the run waits for.
        grows: whether an autoscaler may add hosts.
        grow_s: seconds for which there must be room for more before workers are asked to leave.
        view: of the cluster.
    """

    def __init__(
        self, config: Any, sizes: tuple[int, ...], waiting: Waiting, *, grows: bool = False,
        grow_s: float = GROW_S, view: View | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config)
        self._wants: dict[str, float] = dict(config._resources_per_worker_not_none)
        self._sizes, self._waiting, self._grows, self._grow_s = sizes, waiting, grows, grow_s
        self._view = view or View()
        self._closed: tuple[str, ...] = ()  # hosts that must get no worker of the next group, by Ray's id
        self._hosts: frozenset[str] = frozenset()  # that were there when the last attempt began
        self._why: Mapping[str, Any] = {}  # the reason of the newest attempt that is known to follow
        self._before = 0  # the size that fitted at the last look
        self._looked_at = float("-inf")
        self._roomy_since: float | None = None  # since when there is room for more
        self._asked: float | None = None  # the group that was asked to leave, by its start

    # --- between attempts -------------------------------------------------------------------------

    def make_decision_for_non_running_worker_group(self) -> ScalingDecision:
        """A group of the largest size that fits now; nothing while none does.

        Raises:
            Stopped: somebody asked the run to stop while it waited.
            LaunchError: the hosts that are not excluded never have room.
        """
        self._tell_why()
        try:
            there = self._view.knocked(self._look())
        except Exception as error:  # the head may be away for a while
            return self._wait(f"waits for the cluster's head, which does not answer ({_first(error)})")
        size = self._fitting(there)
        if size == 0:
            with contextlib.suppress(Exception):  # others may use it meanwhile; next time, if not now
                self._view.release(hosts.OURS.group)
            self._require(there)
            self._ask_for_hosts()
            return self._wait(room.waits(self._sizes[0], there, self._wants, before=self._hosts))
        if size < self._sizes[-1] and size != self._before:
            self._before = size  # what was given back a moment ago may not show yet: look twice
            self._view.sleep(BEAT_S)
            return NoopDecision()
        self._before, self._roomy_since = 0, None
        self._closed = tuple(sorted(space.node for space in there.spaces if space.closed))
        self._hosts = frozenset(space.host for space in there.spaces)
        self._waiting.over()
        return ResizeDecision(num_workers=size, resources_per_worker=dict(self._wants))

    def _tell_why(self) -> None:
        """Say once that an attempt follows the one that ended: before any look, which may take seconds."""
        if hosts.OURS.reason != self._why:
            self._why = hosts.OURS.reason
            self._waiting.again(self._why["message"])

    def _require(self, there: Room) -> None:
        """End a run that would wait for ever, for all that it lacks are hosts that it does not take.

        A host that was lost, and is none of these, may come back; so may one that does not answer now.
        """
        left = there.without(_EXCLUDED)
        excluded = sorted(map(str, hosts.OURS.excluded))
        lost = self._hosts - {space.host for space in there.spaces} - {h.name for h in hosts.OURS.excluded}
        if not excluded or lost or self._grows:
            return
        if told := room.excludes(left, self._wants, least=self._sizes[0], names=excluded):
            self._waiting.end(told)
            raise LaunchError(told)

    def on_controller_start_worker_group(self, *, scaling_config: Any, num_workers: int) -> Any:
        """Keep workers away from hosts that are closed: Ray may not know yet that they are gone."""
        return {hosts.NODE: f"!in({','.join(self._closed)})"} if self._closed else None

    def _look(self) -> Room:
        """The cluster as it is without our own workers."""
        view = self._view
        excluded = dict.fromkeys(view.excluded(), _EXCLUDED)
        return view.take().freeing(view.held(hosts.OURS.group)).closing(excluded)

    def _fitting(self, there: Room) -> int:
        """The largest size that fits now; 0 when none does."""
        fit = room.now(there, self._wants)
        return max((size for size in self._sizes if size <= fit), default=0)

    def _wait(self, message: str) -> ScalingDecision:
        self._before = 0
        self._waiting.say(message)
        self._view.sleep(BEAT_S)
        return NoopDecision()

    # --- while workers train ----------------------------------------------------------------------

    def make_decision_for_running_worker_group(
        self, worker_group_state: Any, worker_group_status: Any
    ) -> ScalingDecision:
        """Never a decision: workers are asked to leave, with a checkpoint, and the next group is larger."""
        members, now = worker_group_state, self._view.now()
        largest = members.num_workers >= self._sizes[-1]
        if largest or members.start_time == self._asked or now - self._looked_at < LOOK_S:
            return NoopDecision()
        self._looked_at = now
        self._ask_for_hosts()
        if not self._is_roomy(members.num_workers):
            self._roomy_since = None
        elif self._roomy_since is None:
            self._roomy_since = now
        elif now - self._roomy_since >= self._grow_s:
            self._asked, self._roomy_since = members.start_time, None
            for worker in members.workers:
                worker.execute_async(leaving.ask, leaving.RESIZED)
        return NoopDecision()

    def _is_roomy(self, workers: int) -> bool:
        """Whether there is room for a larger size than this."""
        try:
            there = self._look()
            return self._fitting(there) > workers and self._fitting(self._view.knocked(there)) > workers
        except Exception:  # the head may be away for a while
            return False

    # --- more hosts -------------------------------------------------------------------------------

    def after_controller_start(self, train_run_context: Any) -> None:
        """Ray would register with its autoscaler at once; that takes a process, and most runs need none."""
        self._context = train_run_context

    def _ask_for_hosts(self) -> None:
        """Ask the autoscaler, if there is one, for room for the most workers."""
        if not self._grows:
            return
        with contextlib.suppress(Exception):  # asked again at the next look
            if self._coordinator_client is None:
                super().after_controller_start(self._context)
            else:
                self._maybe_send_resource_request()

    def _get_num_workers_for_resource_request(self) -> int:
        return self._sizes[-1]


def _first(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
