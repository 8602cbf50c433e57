"""How many workers fit on a cluster's hosts, and what is said when they do not."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as draw

import jobs
from lehr.errors import LaunchError
from lehr.launch import room
from lehr.launch.room import ACCELERATOR, GIB, Growth, Room, Space
from lehr.plan import Plan

NAMES = ("CPU", "GPU", "memory")
AMOUNTS = draw.dictionaries(draw.sampled_from(NAMES), draw.integers(0, 12).map(float))
ASKED = draw.dictionaries(draw.sampled_from(NAMES), draw.integers(1, 5).map(float), min_size=1)


def plan(strategy: str) -> Plan:
    return jobs.plan(jobs.LENET, f"strategy={{kind: horovod, {strategy}}}")


def space(host: str, **total: float) -> Space:
    return Space(host, node=host, total=total, free=total)


def cluster(*totals: dict[str, float]) -> Room:
    return Room(tuple(space(f"h{number}", **total) for number, total in enumerate(totals, 1)))


# --- how many fit -------------------------------------------------------------------------------------


@given(draw.lists(AMOUNTS, max_size=4), ASKED)
def test_no_host_gives_more_than_it_has_and_one_more_never_fits(
    totals: list[dict[str, float]], asked: dict[str, float]
) -> None:
    there = cluster(*totals)
    assert room.now(there, asked) == sum(
        next(n - 1 for n in itertools.count(1) if any(n * asked[k] > total.get(k, 0.0) for k in asked))
        for total in totals
    )


@given(draw.lists(AMOUNTS, max_size=4), AMOUNTS, ASKED)
def test_more_hosts_never_hold_less(
    totals: list[dict[str, float]], more: dict[str, float], asked: dict[str, float]
) -> None:
    assert room.now(cluster(*totals, more), asked) >= room.now(cluster(*totals), asked)
    assert room.ever(cluster(*totals, more), asked) >= room.ever(cluster(*totals), asked)


@given(draw.lists(AMOUNTS, min_size=1, max_size=4), ASKED, ASKED)
def test_who_asks_for_more_fits_less_often(
    totals: list[dict[str, float]], asked: dict[str, float], more: dict[str, float]
) -> None:
    both = {name: asked.get(name, 0.0) + more.get(name, 0.0) for name in {*asked, *more}}
    assert room.now(cluster(*totals), both) <= room.now(cluster(*totals), asked)


@given(draw.lists(AMOUNTS, min_size=1, max_size=4), ASKED)
def test_what_is_free_is_never_more_than_what_is_there(
    totals: list[dict[str, float]], asked: dict[str, float]
) -> None:
    there = cluster(*totals)
    given_back = there.freeing({space.node: {"CPU": 100.0, "GPU": 100.0} for space in there.spaces})
    assert room.now(given_back, asked) <= room.ever(there, asked)


def test_one_worker_is_never_split_over_hosts() -> None:
    assert room.now(cluster({"CPU": 3}, {"CPU": 3}), {"CPU": 2.0}) == 2
    assert room.now(cluster({"CPU": 1}, {"CPU": 1}), {"CPU": 2.0}) == 0


def test_parts_of_a_resource_add_up() -> None:
    free = sum([0.1] * 10)  # a little less than 1.0
    assert room.holds({"CPU": free}, {"CPU": 1.0}) == 1


def test_closed_hosts_hold_nothing_now_but_may_again() -> None:
    there = cluster({"CPU": 1}, {"CPU": 1}).closing({"h2": "does not answer"})
    assert (room.now(there, {"CPU": 1.0}), room.ever(there, {"CPU": 1.0})) == (1, 2)


def test_what_our_own_workers_hold_is_room_for_the_next_ones() -> None:
    busy = Space("h1", node="a", total={"CPU": 2}, free={})
    assert room.now(Room((busy,)).freeing({"a": {"CPU": 1.0}, "gone": {"CPU": 8.0}}), {"CPU": 1.0}) == 1


def test_growth_counts_but_not_twice() -> None:
    made = Space("h1", node="a", total={"CPU": 4}, free={"CPU": 4}, kind="worker")
    head = Space("h0", node="b", total={"CPU": 2}, free={"CPU": 2})
    there = Room((head, made), (Growth("worker", {"CPU": 4.0}, 3),))
    assert room.ever(there, {"CPU": 2.0}) == 1 + 3 * 2
    assert room.now(there, {"CPU": 2.0}) == 1 + 2


# --- what a worker asks for ---------------------------------------------------------------------------


def test_what_a_worker_asks_for() -> None:
    strategy = "workers: 2, cpus_per_worker: 3, memory_gib_per_worker: 1.5, accelerator: H100"
    assert room.wants(plan(strategy), gpus=1) == {
        "CPU": 3.0, "GPU": 1.0, ACCELERATOR + "H100": 0.001, "memory": 1.5 * GIB,
    }  # fmt: skip
    assert room.wants(plan("workers: 2"), gpus=0) == {"CPU": 1.0}


@pytest.mark.parametrize(
    ("strategy", "there", "given"),
    [
        ("workers: 4", 0, 0),
        ("workers: 4", 3, 0),
        ("workers: 4", 4, 1),
        ("workers: [2, 4]", 3, 1),
        ("workers: [2, 4]", 1, 0),
        ("workers: 4, gpus: true", 0, 1),
        ("workers: 4, gpus: false", 8, 0),
        ("workers: 4, accelerator: H100", 0, 1),
    ],
)
def test_every_worker_gets_gpus_or_none_does(strategy: str, there: int, given: int) -> None:
    asked = plan(strategy)
    machine = cluster({"CPU": 8.0, "GPU": float(there)})
    assert room.graphics(asked, machine, least=asked.sizes[0]) == given


def test_an_elastic_job_on_a_machine_of_its_own_has_gpus_for_all_workers_or_none() -> None:
    machine = cluster({"CPU": 8.0, "GPU": 1.0})
    assert room.graphics(plan("workers: [1, 4]"), machine, least=4) == 0


def test_gpus_without_cpus_beside_them_do_not_count() -> None:
    there = cluster({"CPU": 4.0}, {"GPU": 4.0})
    assert room.graphics(plan("workers: 4"), there, least=4) == 0


# --- what is said -------------------------------------------------------------------------------------


def refusal(strategy: str, there: Room) -> str:
    asked = plan(strategy)
    least = asked.sizes[0]
    each = room.wants(asked, gpus=room.graphics(asked, there, least=least))
    with pytest.raises(LaunchError) as told:
        room.require(there, each, least=least, most=asked.workers)
    return str(told.value)


def test_what_is_asked_and_what_is_there_are_told() -> None:
    there = cluster({"CPU": 0, "memory": 8 * GIB}, *[{"CPU": 1, "memory": 15.5 * GIB}] * 2)
    assert refusal("workers: 8, gpus: true, memory_gib_per_worker: 2", there) == (
        "strategy.workers: 8 workers of 1 CPU, 1 GPU and 2 GiB need more than this cluster ever has "
        "(none of them fits):\n"
        "    h1: 0 CPUs, 0 GPUs and 8 GiB; h2, h3: 1 CPU, 0 GPUs and 15.5 GiB each\n"
        "  do: lower strategy.workers or strategy.cpus_per_worker or strategy.memory_gib_per_worker, "
        "set strategy.gpus: false, or add hosts to the cluster"
    )


def test_many_equal_hosts_are_counted_and_not_named() -> None:
    told = refusal("workers: 64", cluster(*[{"CPU": 1}] * 20))
    assert "(20 of them fit):\n    20 hosts: 1 CPU each\n" in told


def test_the_type_of_the_accelerators_there_is_told() -> None:
    there = cluster({"CPU": 8, "GPU": 8, ACCELERATOR + "A100": 1.0})
    told = refusal("workers: 4, accelerator: H100", there)
    assert "4 workers of 1 CPU and 1 GPU (H100)" in told
    assert "h1: 8 CPUs and 8 GPUs (A100)" in told


def test_an_elastic_job_needs_room_for_its_least_number() -> None:
    room.require(cluster({"CPU": 2}), {"CPU": 1.0}, least=2, most=4)
    assert "at least 2 workers of 1 CPU need more" in refusal("workers: [2, 4]", cluster({"CPU": 1}))


def test_what_an_autoscaler_may_add_is_told() -> None:
    head = Space("h1", total={"CPU": 0})
    told = refusal("workers: 8", Room((head,), (Growth("spot", {"CPU": 2.0}, 3),)))
    assert "(6 of them fit):\n    h1: 0 CPUs; up to 3 of spot: 2 CPUs\n" in told


def test_nothing_is_refused_where_nobody_knows_how_far_it_grows() -> None:
    room.require(Room((space("h1", CPU=1.0),), bounded=False), {"CPU": 1.0}, least=8, most=8)


def test_what_a_queued_run_waits_for() -> None:
    busy = Space("h2", node="b", total={"CPU": 2}, free={"CPU": 1, "memory": 4 * GIB})
    there = Room((Space("h1", node="a"), busy, Space("h3", node="c"))).closing({"c": "is being taken away"})
    asked = {"CPU": 1.0, "memory": 8.0 * GIB}
    assert room.waits(2, there, asked) == (
        "waits for room: 2 workers of 1 CPU and 8 GiB; free: h1: 0 CPUs and 0 GiB; h2: 1 CPU and 4 GiB; "
        "h3 is being taken away"
    )
    assert room.waits(1, Room(()), asked).endswith("free: no host is there")
