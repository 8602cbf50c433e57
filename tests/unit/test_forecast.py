"""Forecasts: limits that theory knows, parts that are found again, and letters for what cannot be meant."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import jobs
from lehr import forecast
from lehr.cli import app
from lehr.cli import forecast as tables
from lehr.cli.asked import Asked
from lehr.errors import UserError
from lehr.forecast import ASSUMED, Known, Link, Measured, Model, Network, Step
from lehr.journal import Journal
from lehr.plan import Plan
from lehr.store import Store

MB = 1e6
LINK = Link.of(gbits=8, latency_us=100)  # a GB a second
WITHIN = Link.of(gbits=80, latency_us=10)
FAST = Known(LINK.byte_s, LINK.latency_s)

parts = st.floats(1e-5, 1.0)
numbers = st.integers(1, 4096)


def model(network: Network | None = None, **change: float) -> Model:
    values = {"fixed_s": 0.01, "example_s": 0.002, "begin_s": 0.003, "other_s": 0.004} | change
    return Model(network=network or Network(LINK), **values)


def seen(planted: Model, *sizes: tuple[int, float, float]) -> list[Measured]:
    """What the planted model would take: (replicas, batch of each, bytes)."""
    return [Measured(planted.step(n, batch=batch, size=size), size) for n, batch, size in sizes]


# --- the ring -------------------------------------------------------------------------------------


@given(parts, parts, parts)
def test_one_replica_exchanges_nothing(begin_s: float, byte_s: float, latency_s: float) -> None:
    alone = model(Network(Link(byte_s, latency_s)), begin_s=begin_s).step(1, batch=64, size=MB)
    assert alone.exchange_s == 0
    assert alone.step_s == pytest.approx(0.01 + 64 * 0.002 + 0.004)


def test_two_replicas_send_the_bytes_once_and_many_twice() -> None:
    wire = Link(1e-9, 0.0)
    assert wire.ring_s(MB, 2) == pytest.approx(1e-3)
    assert wire.ring_s(MB, 4) == pytest.approx(1.5e-3)
    assert wire.ring_s(MB, 10**9) == pytest.approx(2e-3)


@given(numbers)
def test_latency_grows_with_every_replica(n: int) -> None:
    wire = Link(0.0, 1e-4)
    assert wire.ring_s(MB, n) == pytest.approx(2 * (n - 1) * 1e-4)
    assert wire.ring_s(MB, n + 1) - wire.ring_s(MB, n) == pytest.approx(2e-4)


@given(numbers, st.floats(1.0, 1e10))
def test_ring_lies_between_its_limits(n: int, size: float) -> None:
    bytes_s = LINK.ring_s(size, n) - 2 * (n - 1) * LINK.latency_s
    assert -1e-9 <= bytes_s <= 2 * size * LINK.byte_s + 1e-9


def test_link_by_its_label() -> None:
    assert LINK.byte_s == pytest.approx(1e-9)
    assert LINK.gbits == pytest.approx(8)
    assert Link(0.0, 0.0).gbits == math.inf


# --- two levels -----------------------------------------------------------------------------------


def test_two_levels_are_a_ring_within_and_a_ring_between() -> None:
    network = Network(LINK, WITHIN, per_host=8)
    assert network.way_s(MB, 64) == pytest.approx(WITHIN.ring_s(MB, 8) + LINK.ring_s(MB, 8))


def test_replicas_of_one_host_need_no_link_between_hosts() -> None:
    network = Network(LINK, WITHIN, per_host=8)
    assert network.way_s(MB, 8) == pytest.approx(WITHIN.ring_s(MB, 8))
    assert network.way_s(MB, 3) == pytest.approx(WITHIN.ring_s(MB, 3))


def test_hosts_that_are_not_full_count() -> None:
    assert [Network(LINK, WITHIN, per_host=8).hosts(n) for n in (1, 8, 9, 512)] == [1, 1, 2, 64]


@given(numbers)
def test_one_replica_a_host_is_the_flat_ring(n: int) -> None:
    assert Network(LINK, WITHIN, per_host=1).way_s(MB, n) == pytest.approx(LINK.ring_s(MB, n))


def test_many_replicas_gain_by_two_levels() -> None:
    flat, two = Network(LINK), Network(LINK, WITHIN, per_host=8)
    assert two.way_s(MB, 512) < flat.way_s(MB, 512) / 4


# --- efficiency -----------------------------------------------------------------------------------


def test_efficiency_is_one_where_nothing_is_shared_or_fixed() -> None:
    free = Model(0.0, 0.002, 0.0, 0.0, Network(Link(0.0, 0.0)))
    alone = free.step(1, batch=128, size=MB)
    for n in (2, 8, 128):
        assert forecast.efficiency(free.step(n, batch=128 / n, size=MB), alone) == pytest.approx(1)


def test_fixed_compute_bounds_the_speed() -> None:
    """Amdahl's law: with a share f that is not divided, n replicas are at most 1 / f as fast."""
    half = Model(0.1, 0.1 / 128, 0.0, 0.0, Network(Link(0.0, 0.0)))
    alone, many = half.step(1, batch=128, size=0), half.step(1024, batch=0.125, size=0)
    assert 1.99 < alone.step_s / many.step_s < 2


@given(st.lists(numbers, min_size=2, max_size=5, unique=True))
def test_more_replicas_never_raise_efficiency(counts: list[int]) -> None:
    planted = model()
    alone = planted.step(1, batch=4096, size=MB)
    found = [forecast.efficiency(planted.step(n, batch=4096 / n, size=MB), alone) for n in sorted(counts)]
    assert all(one >= two - 1e-12 for one, two in itertools.pairwise(found))


# --- fitting --------------------------------------------------------------------------------------


def same(found: Model, planted: Model) -> None:
    assert found.fixed_s == pytest.approx(planted.fixed_s, rel=1e-6, abs=1e-9)
    assert found.example_s == pytest.approx(planted.example_s, rel=1e-6)
    assert found.begin_s == pytest.approx(planted.begin_s, rel=1e-6, abs=1e-9)
    assert found.other_s == pytest.approx(planted.other_s)
    assert found.network.between.byte_s == pytest.approx(planted.network.between.byte_s, rel=1e-6)
    assert found.network.between.latency_s == pytest.approx(planted.network.between.latency_s, rel=1e-6)


@given(parts, parts, parts, st.floats(0.1, 1000), st.floats(1, 10_000))
def test_every_part_is_found_again(
    fixed_s: float, example_s: float, begin_s: float, gbits: float, latency_us: float
) -> None:
    way = Network(Link.of(gbits=gbits, latency_us=latency_us))
    planted = model(way, fixed_s=fixed_s, example_s=example_s, begin_s=begin_s)
    steps = seen(planted, *((n, 64 / n, 100 * MB) for n in (1, 2, 4, 8, 16)))
    found = forecast.fit(steps, Known())
    assert found.assumed == ()
    for n in (1, 2, 32, 512):
        ours, theirs = (each.step(n, batch=1, size=100 * MB) for each in (found.model, planted))
        assert ours.step_s == pytest.approx(theirs.step_s, rel=1e-5)


def test_every_part_of_a_usual_model_is_found_again() -> None:
    planted = model()
    found = forecast.fit(seen(planted, *((n, 64 / n, 10 * MB) for n in (1, 2, 4, 8))), Known())
    same(found.model, planted)


def test_known_links_need_one_number_of_replicas() -> None:
    planted = model()
    found = forecast.fit(seen(planted, (1, 128, MB), (2, 64, MB)), FAST)
    same(found.model, planted)
    assert found.assumed == ()


def test_two_numbers_tell_the_bandwidth_too() -> None:
    planted = model(Network(Link(3e-9, ASSUMED.latency_s)))
    found = forecast.fit(seen(planted, (1, 128, MB), (2, 64, MB), (4, 32, MB)), Known())
    same(found.model, planted)
    assert found.assumed == ("a message takes 50 us",)


def test_two_levels_are_fitted_between_hosts() -> None:
    planted = model(Network(LINK, WITHIN, per_host=4))
    known = Known(None, None, WITHIN, 4)
    found = forecast.fit(seen(planted, *((n, 128 / n, 10 * MB) for n in (1, 4, 8, 16, 32))), known)
    same(found.model, planted)


def test_what_one_run_cannot_tell_is_said() -> None:
    found = forecast.fit(seen(model(), (2, 64, MB)), Known())
    assert found.model.fixed_s == 0
    assert found.assumed == (
        "compute has no fixed part: one batch is known", "the link has 10 Gbit/s", "a message takes 50 us",
    )  # fmt: skip
    alone = forecast.fit(seen(model(), (1, 64, MB)), FAST)
    assert "no exchange is known" in alone.assumed[-1]
    assert alone.model.begin_s == 0


def test_a_given_zero_is_not_an_assumption() -> None:
    found = forecast.fit(seen(model(), (2, 64, MB)), Known(LINK.byte_s, 0.0))
    assert found.model.network.between.latency_s == 0


def test_no_part_is_below_zero() -> None:
    """Less time for more examples, and for more replicas, is noise; it does not become a negative part."""
    noisy = [
        Measured(Step(2, 64, 0.9, 0.5), MB), Measured(Step(4, 32, 1.0, 0.1), MB),
        Measured(Step(8, 16, 1.1, 0.05), MB),
    ]  # fmt: skip
    found = forecast.fit(noisy, Known()).model
    assert found.example_s == 0
    assert found.fixed_s == pytest.approx(1.0)
    assert min(found.begin_s, found.network.between.byte_s, found.network.between.latency_s) >= 0


@given(st.lists(st.tuples(parts, parts), min_size=1, max_size=6), st.data())
def test_least_squares_beats_every_neighbour(rows: list[tuple[float, float]], data: Any) -> None:
    values = data.draw(st.lists(st.floats(-1, 1), min_size=len(rows), max_size=len(rows)))
    found = forecast.least_squares(rows, values)

    def error(x: list[float]) -> float:
        return sum((a * x[0] + b * x[1] - v) ** 2 for (a, b), v in zip(rows, values, strict=True))

    assert min(found) >= 0
    for i in (0, 1):
        for change in (1e-3, -1e-3):
            near = [max(0.0, x + change * (j == i)) for j, x in enumerate(found)]
            assert error(found) <= error(near) + 1e-9


@pytest.mark.parametrize(
    ("replicas", "near"), [(48, (32, 64)), (3, (2, 4)), (512, (128,)), (8, (8,)), (1, (1,)), (127, (64, 128))]
)
def test_nearest_that_divide(replicas: int, near: tuple[int, ...]) -> None:
    assert forecast.nearest(replicas, 128) == near


# --- measured runs --------------------------------------------------------------------------------


def write(run: Store, plan: Plan, *attempts: tuple[int, list[tuple[float, float, float]]]) -> Store:
    """A run whose attempts of so many replicas took (step, compute, exchange) seconds an entry."""
    run.write("plan.json", json.dumps(plan.document()).encode())
    for number, (replicas, times) in enumerate(attempts, 1):
        diary = Journal(run, number, flush_s=0.01)
        diary.start(0, workers=replicas, replicas=replicas)
        for step, values in enumerate(times, 1):
            names = ("time/step_s", "time/compute_s", "time/exchange_s")
            diary.metrics(step, dict(zip(names, values, strict=True)))
        diary.close()
    return run


def run_of(folder: Path, *attempts: tuple[int, list[tuple[float, float, float]]]) -> Plan:
    plan = jobs.plan(jobs.EBM)
    write(jobs.storage(folder).below(plan.run_id), plan, *attempts)
    return plan


COMPILES = (9.0, 8.5, 0.4)


def test_median_by_replicas_without_the_entry_that_compiles(tmp_path: Path) -> None:
    times = [COMPILES, (0.5, 0.4, 0.06), (0.7, 0.6, 0.06), (0.6, 0.5, 0.05)]
    plan = run_of(tmp_path, (2, times), (4, [COMPILES, (0.3, 0.2, 0.08)]), (2, [COMPILES]))
    two, four = tables.measured(jobs.storage(tmp_path).below(plan.run_id))
    assert (two.step.replicas, two.step.batch, two.size) == (2, 32, 4 * plan.parameters)
    assert (two.step.compute_s, two.step.exchange_s) == (0.5, 0.06)
    assert two.step.other_s == pytest.approx(0.04)
    assert (four.step.replicas, four.step.batch) == (4, 16)


def test_table_of_an_elastic_run(tmp_path: Path) -> None:
    plan = run_of(
        tmp_path, (1, [COMPILES, (0.66, 0.65, 0.0)]), (2, [COMPILES, (0.37, 0.33, 0.03)]),
        (4, [COMPILES, (0.22, 0.17, 0.04)]),
    )  # fmt: skip
    found = tables.make(plan, Asked("1,2,4,64", (plan.run_id,), storage=str(tmp_path)))
    assert found.fit.model.fixed_s == pytest.approx(0.01)
    assert found.fit.model.example_s == pytest.approx(0.01)
    lines = list(tables.lines(found))
    rows = {line.split("  ")[0]: line for line in lines[lines.index("") + 1 :]}
    assert list(rows) == ["replicas", "1", "2", "4", "64"]
    assert rows["replicas"].endswith("measured")
    assert rows["1"].endswith("660 ms")
    assert rows["2"].endswith("370 ms")
    assert rows["64"].endswith("-")
    assert "100.0%" in rows["1"]


def test_run_of_another_job_is_told(tmp_path: Path) -> None:
    plan = run_of(tmp_path, (1, [COMPILES, (0.66, 0.65, 0.0)]))
    other = jobs.plan(jobs.EBM, "sampler.steps=20", "strategy.cpus_per_worker=4")
    lines = list(tables.lines(tables.make(other, Asked("1", (plan.run_id,), storage=str(tmp_path)))))
    [said] = [line for line in lines if "beware" in line]
    assert said.endswith("run ebm is of a job with another sampler, strategy.cpus_per_worker")


def test_whole_run_and_rate() -> None:
    plan = jobs.plan(jobs.EBM)  # 10 steps of 64 examples
    found = tables.make(plan, Asked("1,2,48", step_s=2.0, at=1, link_gbits=10, latency_us=0))
    assert found.refused == (48,)
    assert found.whole_s(found.step(1)) == pytest.approx(20)
    assert found.step(1).examples_per_s == pytest.approx(32)
    lines = list(tables.lines(found))
    assert lines[-1] == "48: 64 examples cannot be divided evenly over them; 32 or 64 can"


def test_step_at_many_replicas_counts_their_exchange() -> None:
    plan = jobs.plan(jobs.EBM)
    found = tables.make(plan, Asked("1,4", step_s=2.0, at=4, link_gbits=1, latency_us=100))
    assert found.step(4).step_s == pytest.approx(2.0)
    assert found.step(4).exchange_s == pytest.approx(1.5 * 4 * plan.parameters * 8e-9 + 6e-4)
    assert found.step(1).step_s > 4 * (2.0 - found.step(4).exchange_s) - 1e-9


def test_weak_scaling_keeps_the_batch_of_a_replica() -> None:
    plan = jobs.plan(jobs.EBM)
    found = tables.make(plan, Asked("1,3", step_s=2.0, weak=True))
    assert found.refused == ()
    assert (found.step(3).batch, found.step(3).compute_s) == (64, found.step(1).compute_s)
    assert found.whole_s(found.step(3)) == pytest.approx(20 / 3, rel=1e-2)  # as many examples
    assert "on each replica" in next(iter(tables.lines(found)))


def test_parameters_can_be_said() -> None:
    plan = jobs.plan(jobs.EBM)
    assert tables.make(plan, Asked("2", step_s=2.0, parameters=1_000_000)).size == 4_000_000


# --- the command ----------------------------------------------------------------------------------

JOB = str(Path(__file__).resolve().parents[2] / "jobs" / "ebm-digits.yaml")


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Exit code of `lehr plan JOB WORDS`."""
    monkeypatch.setattr(sys, "argv", ["lehr", "plan", JOB, *words])
    with pytest.raises(SystemExit) as left:
        app.main()
    code = left.value.code
    return code if isinstance(code, int) else 0


def test_every_option_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    came: list[Asked] = []
    monkeypatch.setattr(tables, "make", lambda plan, asked: came.append(asked))
    monkeypatch.setattr(tables, "lines", lambda found: [])
    words = (
        "--replicas 1,8 --measured a --measured b --step-s 0.5 --at 2 --link-gbits 3 --latency-us 4"
        " --per-host 5 --intra-gbits 6 --intra-latency-us 7 --parameters 8 --weak --storage elsewhere"
    )
    assert command(monkeypatch, *words.split()) == 0
    assert came == [Asked("1,8", ("a", "b"), 0.5, 2, 3, 4, 5, 6, 7, 8, weak=True, storage="elsewhere")]


def test_command_prints_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "--replicas", "1,2,512", "--step-s", "0.5", "--at", "1") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "forecast of ebm-digits: 128 examples a step over all replicas, 480 steps"
    [one, two, refused] = said[-3:]
    assert one.split()[:4] == ["1", "128", "500", "ms"]
    assert two.split()[:2] == ["2", "64"]
    assert refused == "512: 128 examples cannot be divided evenly over them; 128 can"


def test_command_answers_a_mistake_with_its_letter(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "--replicas", "1,x", "--step-s", "1") == 2
    assert capsys.readouterr().err.startswith("--replicas: 'x' is no number of replicas\n  accepted: whole")
    assert command(monkeypatch, "--link-gbits", "1") == 2
    assert capsys.readouterr().err.startswith("--replicas: missing")


def test_plan_without_replicas_is_the_plan(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEHR_STORAGE", "elsewhere")
    assert command(monkeypatch) == 0
    assert capsys.readouterr().out.startswith("plan of ebm-digits")


# --- letters --------------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "a word": ({"replicas": "1,eight"}, "--replicas: 'eight' is no number of replicas"),
    "none": ({"replicas": "0"}, "--replicas: '0' is no number"),
    "below": ({"replicas": "-2"}, "--replicas: '-2' is no number"),
    "a part": ({"replicas": "1.5"}, "--replicas: '1.5' is no number"),
    "a gap": ({"replicas": "1,,2"}, "--replicas: a number is missing"),
    "nothing": ({"replicas": ""}, "--replicas: a number is missing"),
    "far too many": ({"replicas": "1" + 30 * "0"}, "is no number of replicas"),
    "other digits": ({"replicas": "²"}, "is no number of replicas"),
    "none divides": ({"replicas": "3,48"}, "divides train.global_batch (64) evenly\n  accepted: 2, 4, 32,"),
    "no step": ({"step_s": None}, "--replicas: a forecast needs a step that was measured"),
    "both": ({"measured": ("a",)}, "--step-s: runs are given, too"),
    "both, by place": ({"measured": ("a",), "step_s": None, "at": 2}, "--at: runs are given, too"),
    "no run": ({"measured": ("absent",), "step_s": None}, "RUN: there is no run 'absent'"),
    "no time": ({"step_s": 0.0}, "--step-s: 0 came\n  accepted: a number above 0"),
    "not a number": ({"step_s": math.nan}, "--step-s: nan came"),
    "infinite": ({"link_gbits": math.inf}, "--link-gbits: inf came"),
    "negative latency": ({"latency_us": -1.0}, "--latency-us: -1 came\n  accepted: 0 or a number above"),
    "at none": ({"at": 0}, "--at: 0 came"),
    "host alone": ({"per_host": 8}, "--intra-gbits: missing"),
    "link alone": ({"intra_gbits": 80.0}, "--per-host: missing"),
    "latency alone": ({"intra_latency_us": 1.0}, "--per-host: missing"),
    "less than its exchange": ({"step_s": 1e-6, "at": 2}, "--step-s: 1 us with 2 replicas, and their"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=list(MISTAKES))
def test_mistakes_get_a_letter(mistake: tuple[dict[str, Any], str], tmp_path: Path) -> None:
    change, sentence = mistake
    asked = Asked(**({"replicas": "1,2", "step_s": 1.0, "storage": str(tmp_path)} | change))
    with pytest.raises(UserError) as raised:
        tables.make(jobs.plan(jobs.EBM), asked)
    assert sentence in str(raised.value)


def test_options_without_replicas_are_named() -> None:
    assert not Asked(storage="elsewhere").wanted
    with pytest.raises(UserError, match="leave --link-gbits, --weak out"):
        assert Asked(link_gbits=1.0, weak=True).wanted


def test_run_that_tells_nothing(tmp_path: Path) -> None:
    plan = run_of(tmp_path, (2, [COMPILES]))
    with pytest.raises(UserError, match="--measured: the journal of run ebm tells the times of no steps"):
        tables.make(plan, Asked("1", (plan.run_id,), storage=str(tmp_path)))


def test_model_that_cannot_count_its_parameters() -> None:
    plan = dataclasses.replace(jobs.plan(jobs.EBM), parameters=None)
    with pytest.raises(UserError, match="say it: --parameters N"):
        tables.make(plan, Asked("1", step_s=1.0))
