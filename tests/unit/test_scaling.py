"""How many workers the next attempt has: decided before a fake cluster, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from ray.train import ScalingConfig
from ray.train.v2._internal.execution.scaling_policy import NoopDecision, ResizeDecision

from lehr import leaving
from lehr.errors import LaunchError
from lehr.launch import hosts, scaling
from lehr.launch.hosts import Host
from lehr.launch.room import Room, Space
from lehr.launch.scaling import Elastic, View

GROW_S = 30.0


@dataclass
class Cluster:
    """Hosts of a test: CPUs by name, and what others have taken of them."""

    cpus: dict[str, float]
    taken: dict[str, float] = field(default_factory=dict)
    ours: dict[str, float] = field(default_factory=dict)
    deaf: set[str] = field(default_factory=set)
    excluded: frozenset[str] = frozenset()
    head_is_away: bool = False
    time: float = 0.0
    released: int = 0

    def take(self) -> Room:
        if self.head_is_away:
            raise RuntimeError("the head is away\nand more of it")
        return Room(tuple(self._space(name) for name in self.cpus))

    def _space(self, name: str) -> Space:
        there = self.cpus[name]
        free = there - self.taken.get(name, 0.0) - self.ours.get(name, 0.0)
        return Space(name, node=f"id-{name}", total={"CPU": there}, free={"CPU": free})

    def knocked(self, room: Room) -> Room:
        return room.closing({f"id-{name}": "does not answer" for name in self.deaf})

    def held(self, group: Any) -> Mapping[str, Mapping[str, float]]:
        return {f"id-{name}": {"CPU": amount} for name, amount in self.ours.items()}

    def release(self, group: Any) -> None:
        self.released += 1
        self.ours = {}

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def view(self) -> View:
        return View(self.take, self.knocked, self.held, self.release, lambda: self.excluded,
                    lambda: self.time, self.sleep)  # fmt: skip


class Waiting:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)

    def again(self, why: str) -> None:
        self.said.append(f"again: {why}")

    def end(self, message: str) -> None:
        self.said.append(f"end: {message}")

    def over(self) -> None:
        self.said.append("over")


@dataclass
class Worker:
    """Keeps what it was told to do."""

    told: list[tuple[Any, ...]] = field(default_factory=list)

    def execute_async(self, *words: Any) -> None:
        self.told.append(words)


@dataclass
class Group:
    start_time: float
    workers: list[Worker]

    @property
    def num_workers(self) -> int:
        return len(self.workers)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Waiting:
    monkeypatch.setattr(hosts, "OURS", hosts.Roster())
    return Waiting()


def policy(cluster: Cluster, waiting: Waiting, *sizes: int, grows: bool = False) -> Elastic:
    config = ScalingConfig(num_workers=sizes[-1], resources_per_worker={"CPU": 1.0})
    return Elastic(config, sizes, waiting, grows=grows, grow_s=GROW_S, view=cluster.view())


def size(decision: Any) -> int:
    return decision.num_workers if isinstance(decision, ResizeDecision) else 0


def decided(policy: Elastic, *, looks: int = 2) -> int:
    """What comes out within so many looks; 0 when nothing does."""
    for _ in range(looks):
        if found := size(policy.make_decision_for_non_running_worker_group()):
            return found
    return 0


# --- between attempts ---------------------------------------------------------------------------------


def test_a_fixed_job_starts_at_the_first_look_when_there_is_room(waiting: Waiting) -> None:
    decision = policy(Cluster({"h2": 1, "h3": 1}), waiting, 2).make_decision_for_non_running_worker_group()
    assert isinstance(decision, ResizeDecision)
    assert (decision.num_workers, decision.resources_per_worker) == (2, {"CPU": 1.0})


def test_a_fixed_job_waits_for_its_host_and_says_so(waiting: Waiting) -> None:
    cluster = Cluster({"h2": 1})
    fixed = policy(cluster, waiting, 2)
    for _ in range(3):
        assert isinstance(fixed.make_decision_for_non_running_worker_group(), NoopDecision)
    assert waiting.said == ["waits for room: 2 workers of 1 CPU; free: h2: 1 CPU"] * 3
    assert cluster.time == 3 * scaling.BEAT_S, "Ray's loop would spin"
    cluster.cpus["h3"] = 1
    assert decided(fixed, looks=1) == 2
    assert waiting.said[-1] == "over"


def test_a_host_that_was_lost_is_named(waiting: Waiting) -> None:
    cluster = Cluster({"h2": 1, "h3": 1})
    fixed = policy(cluster, waiting, 2)
    assert decided(fixed) == 2
    del cluster.cpus["h3"]
    assert decided(fixed) == 0
    assert waiting.said[-1].endswith("free: h2: 1 CPU; lost since the last attempt: h3")


def test_while_it_waits_it_gives_back_what_the_last_attempt_held(waiting: Waiting) -> None:
    cluster = Cluster({"h2": 1}, ours={"h2": 1})
    assert decided(policy(cluster, waiting, 2)) == 0
    assert cluster.released
    assert cluster.ours == {}


def test_what_the_last_attempt_holds_is_room_for_the_next(waiting: Waiting) -> None:
    cluster = Cluster({"h2": 1, "h3": 1}, ours={"h2": 1, "h3": 1})
    assert decided(policy(cluster, waiting, 2), looks=1) == 2
    assert not cluster.released, "Ray Train itself ends the group that it knows"


@pytest.mark.parametrize(
    ("there", "given"), [({"h2": 4}, 4), ({"h2": 2, "h3": 1}, 2), ({"h2": 1}, 1), ({"h2": 0}, 0), ({}, 0)]
)
def test_an_elastic_job_takes_the_largest_size_that_fits(
    waiting: Waiting, there: dict[str, float], given: int
) -> None:
    assert decided(policy(Cluster(there), waiting, 1, 2, 4)) == given


def test_less_than_the_most_is_believed_at_the_second_look(waiting: Waiting) -> None:
    """What others have given back a moment ago shows late."""
    cluster = Cluster({"h2": 1, "h3": 1}, taken={"h3": 1})
    elastic = policy(cluster, waiting, 1, 2)
    assert decided(elastic, looks=1) == 0
    cluster.taken = {}
    assert decided(elastic, looks=1) == 2


def test_a_host_that_does_not_answer_gets_no_worker_though_ray_counts_it(waiting: Waiting) -> None:
    cluster = Cluster({"h2": 1, "h3": 1, "h4": 1}, deaf={"h3"})
    elastic = policy(cluster, waiting, 1, 2, 3)
    assert decided(elastic) == 2
    chosen = elastic.on_controller_start_worker_group(scaling_config=None, num_workers=2)
    assert chosen == {"ray.io/node-id": "!in(id-h3)"}
    cluster.deaf = set()
    assert decided(elastic) == 3
    assert elastic.on_controller_start_worker_group(scaling_config=None, num_workers=3) is None


def exclude(cluster: Cluster, *names: str) -> None:
    """No worker is placed on these hosts any more, alive or not."""
    hosts.OURS.excluded = {Host(name, f"10.77.1.{name[1:]}") for name in names}
    cluster.excluded = frozenset(f"id-{name}" for name in names)


def test_an_excluded_host_is_no_room(waiting: Waiting) -> None:
    cluster = Cluster({"h2": 1, "h3": 1, "h4": 1}, taken={"h4": 1})
    exclude(cluster, "h3")
    assert decided(policy(cluster, waiting, 2)) == 0
    assert waiting.said[0] == (
        "waits for room: 2 workers of 1 CPU; free: h2: 1 CPU; h4: 0 CPUs; h3 is excluded"
    )


@pytest.mark.parametrize("dead", [False, True])
def test_a_run_that_only_excluded_hosts_could_hold_ends(waiting: Waiting, dead: bool) -> None:
    cluster = Cluster({"h2": 1, "h3": 1})
    fixed = policy(cluster, waiting, 2)
    assert decided(fixed) == 2
    exclude(cluster, "h3")
    if dead:
        del cluster.cpus["h3"]
    with pytest.raises(LaunchError) as raised:
        decided(fixed)
    assert str(raised.value).partition("\n  do: ")[0] == (
        "recovery.exclude_after: 2 workers of 1 CPU need more than the cluster ever has without h3 "
        "(10.77.1.3), excluded for failures there:\n    h2: 1 CPU"
    )
    assert waiting.said[-1] == f"end: {raised.value}"


def test_a_run_with_excluded_hosts_waits_for_others_that_may_come(waiting: Waiting) -> None:
    """For one that was lost, one that does not answer, and those that an autoscaler may add."""
    cluster = Cluster({"h2": 1, "h3": 1, "h4": 1}, taken={"h4": 1})
    fixed = policy(cluster, waiting, 2)
    assert decided(fixed) == 2
    exclude(cluster, "h3")
    cluster.taken, cluster.deaf = {}, {"h4"}
    assert decided(fixed) == 0
    del cluster.cpus["h4"]
    assert decided(fixed) == 0
    assert waiting.said[-1].endswith("h3 is excluded; lost since the last attempt: h4")
    cluster.cpus["h4"], cluster.deaf = 1, set()
    assert decided(fixed) == 2
    alone = Cluster({"h2": 1, "h3": 1})
    exclude(alone, "h3")
    assert decided(policy(alone, waiting, 2, grows=True)) == 0


def test_an_elastic_run_goes_on_below_what_it_wished_for(waiting: Waiting) -> None:
    cluster = Cluster({"h2": 1, "h3": 1})
    exclude(cluster, "h3")
    assert decided(policy(cluster, waiting, 1, 2)) == 1


def test_why_another_attempt_follows_is_said_once_and_before_the_look(waiting: Waiting) -> None:
    cluster = Cluster({"h2": 1})
    fixed = policy(cluster, waiting, 2)
    assert decided(fixed, looks=1) == 0
    assert len(waiting.said) == 1, "the first attempt follows nothing"
    hosts.OURS.reason = {"message": "worker 1 failed", "noticed": 1.0}
    assert decided(fixed) == 0
    assert waiting.said[1:] == ["again: worker 1 failed", waiting.said[0], waiting.said[0]]
    cluster.cpus["h3"] = 1
    hosts.OURS.reason = {"message": "worker 1 failed", "noticed": 2.0}
    assert decided(fixed) == 2
    assert waiting.said[4:] == ["again: worker 1 failed", "over"]


def test_a_head_that_is_away_is_waited_for(waiting: Waiting) -> None:
    cluster = Cluster({"h2": 1}, head_is_away=True)
    fixed = policy(cluster, waiting, 1)
    assert decided(fixed) == 0
    assert waiting.said[0] == "waits for the cluster's head, which does not answer (the head is away)"
    cluster.head_is_away = False
    assert decided(fixed, looks=1) == 1


# --- while workers train ------------------------------------------------------------------------------


def watched(elastic: Elastic, cluster: Cluster, group: Group, seconds: float) -> float | None:
    """Let the group train; after how many seconds it was asked to leave."""
    for second in range(int(seconds)):
        decision = elastic.make_decision_for_running_worker_group(group, None)
        assert isinstance(decision, NoopDecision), "Ray Train would end the workers without a checkpoint"
        if group.workers[0].told:
            return float(second)
        cluster.time += 1.0
    return None


def test_workers_leave_once_there_has_been_room_for_more_long_enough(waiting: Waiting) -> None:
    cluster = Cluster({"h2": 1, "h3": 1}, ours={"h2": 1})
    elastic, group = policy(cluster, waiting, 1, 2, 4), Group(0.0, [Worker()])
    asked_at = watched(elastic, cluster, group, 100)
    assert asked_at is not None
    assert GROW_S <= asked_at <= GROW_S + 2 * scaling.LOOK_S
    assert group.workers[0].told == [(leaving.ask, leaving.RESIZED)]
    assert watched(elastic, cluster, Group(0.0, [Worker()]), 100) is None, "the same group is asked once"
    assert watched(elastic, cluster, Group(99.0, [Worker()]), 100) is not None, "another one anew"
    assert decided(elastic) == 2


def test_all_workers_are_asked(waiting: Waiting) -> None:
    cluster = Cluster({"h2": 1, "h3": 1, "h4": 2}, ours={"h2": 1, "h3": 1})
    elastic, group = policy(cluster, waiting, 2, 4), Group(0.0, [Worker(), Worker()])
    watched(elastic, cluster, group, 100)
    assert all(worker.told == [(leaving.ask, leaving.RESIZED)] for worker in group.workers)


def test_room_that_goes_away_meanwhile_is_no_room(waiting: Waiting) -> None:
    cluster = Cluster({"h2": 1, "h3": 1}, ours={"h2": 1})
    elastic, group = policy(cluster, waiting, 1, 2), Group(0.0, [Worker()])
    for _ in range(5):
        assert watched(elastic, cluster, group, 20) is None
        cluster.taken = {"h3": 1}
        assert watched(elastic, cluster, group, 5) is None
        cluster.taken = {}


@pytest.mark.parametrize(
    "cluster",
    [
        Cluster({"h2": 1, "h3": 1, "h4": 1}, ours={"h2": 1, "h3": 1}),  # room for 3, which is no size
        Cluster({"h2": 1, "h3": 1, "h4": 2}, ours={"h2": 1, "h3": 1}, deaf={"h4"}),
        Cluster({"h2": 1, "h3": 1, "h4": 2}, ours={"h2": 1, "h3": 1}, head_is_away=True),
    ],
)
def test_workers_stay_when_there_is_no_larger_size(waiting: Waiting, cluster: Cluster) -> None:
    elastic = policy(cluster, waiting, 1, 2, 4)
    assert watched(elastic, cluster, Group(0.0, [Worker(), Worker()]), 100) is None


def test_the_largest_group_is_left_alone(waiting: Waiting) -> None:
    cluster = Cluster({"h2": 8})
    assert watched(policy(cluster, waiting, 2), cluster, Group(0.0, [Worker(), Worker()]), 100) is None
