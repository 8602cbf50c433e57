"""`lehr plan --replicas`: what is asked, what measured runs say, and the table of the answer."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from lehr import forecast, journal
from lehr.cli import columns, stored
from lehr.cli.asked import Asked
from lehr.errors import KeyMissing, UserError, letter
from lehr.forecast import Fit, Known, Link, Measured, Network, Step
from lehr.plan import Plan
from lehr.store import Store

GRADIENT_BYTES = 4  # they are float32 under every precision
_HEAD = (
    "replicas",
    "batch each",
    "step",
    "compute",
    "exchange",
    "other",
    "examples/s",
    "efficiency",
    "whole run",
)
_WEIGHTY = ("model", "objective", "sampler")
_TIMES = ("time/step_s", "time/compute_s", "time/exchange_s")


@dataclass(frozen=True)
class Forecast:
    """All that the table tells."""

    plan: Plan
    size: float
    fit: Fit
    replicas: tuple[int, ...]
    refused: tuple[int, ...]
    measured: tuple[Measured, ...]
    notes: tuple[str, ...]
    weak: bool

    def step(self, replicas: int) -> Step:
        """What it would take with so many."""
        batch = self.plan.batch_per_replica if self.weak else self.plan.global_batch / replicas
        return self.fit.model.step(replicas, batch=batch, size=self.size)

    def whole_s(self, step: Step) -> float:
        """The run's time: as many examples as the job says."""
        return self.plan.steps * self.plan.global_batch / step.examples_per_s


def make(plan: Plan, asked: Asked) -> Forecast:
    """Work it out.

    Raises:
        UserError: an option is missing or makes no sense, or a run says nothing of its steps.
    """
    wanted = asked.numbers()
    asked.check()
    size, known = _size(plan, asked), _known(asked)
    folders = {name: stored.find(name, asked.storage).folder for name in asked.measured}
    found = tuple(each for name, folder in folders.items() for each in of_run(name, folder, size))
    fit = forecast.fit(found, known) if found else _of_step(plan, asked, size, known)
    evenly = [n for n in wanted if asked.weak or plan.global_batch % n == 0]
    if not evenly:
        raise UserError(letter("--replicas", f"none of {asked.replicas} divides train.global_batch "
                               f"({plan.global_batch}) evenly", accepted=_near(plan, wanted),
                               do="give others, or --weak: it keeps the batch of a replica"))  # fmt: skip
    refused = tuple(n for n in wanted if n not in evenly)
    notes = tuple(note for name, folder in folders.items() for note in _differences(name, folder, plan))
    return Forecast(plan, size, fit, tuple(evenly), refused, found, notes, asked.weak)


def _near(plan: Plan, wanted: list[int]) -> str:
    near = sorted({close for n in wanted for close in forecast.nearest(n, plan.global_batch)})
    return ", ".join(map(str, near))


# --- what is asked --------------------------------------------------------------------------------


def _size(plan: Plan, asked: Asked) -> float:
    parameters = plan.parameters if asked.parameters is None else asked.parameters
    if parameters is None:
        came = f"how many parameters model {plan.spec.model.kind} has is known when it is built"
        raise UserError(letter("--parameters", came, do="say it: --parameters N"))
    return GRADIENT_BYTES * parameters


def _known(asked: Asked) -> Known:
    within = None
    if asked.intra_gbits is not None:
        within = Link.of(gbits=asked.intra_gbits, latency_us=asked.intra_latency_us or 0.0)
    byte_s = None if asked.link_gbits is None else Link.of(gbits=asked.link_gbits, latency_us=0).byte_s
    latency_s = None if asked.latency_us is None else asked.latency_us * 1e-6
    return Known(byte_s, latency_s, within, asked.per_host or 1)


def _of_step(plan: Plan, asked: Asked, size: float, known: Known) -> Fit:
    """A model from one number: all of the step that is not the exchange is taken as compute."""
    if asked.step_s is None:
        came = "a forecast needs a step that was measured"
        do = "give --measured RUN (may be repeated), or --step-s SECONDS --at REPLICAS"
        raise UserError(letter("--replicas", came, do=do))
    at = plan.replicas if asked.at is None else asked.at
    batch = plan.batch_per_replica if asked.weak else plan.global_batch / at
    alone = forecast.fit([Measured(Step(1, batch, asked.step_s, 0.0), size)], known)
    network = alone.model.network
    exchange_s = network.way_s(size, at) if at > 1 else 0.0
    if exchange_s >= asked.step_s:
        came = f"{_time(asked.step_s)} with {at} replicas, and their exchange alone takes {_time(exchange_s)}"
        raise UserError(letter("--step-s", came, do="look at --link-gbits and --latency-us"))
    example_s = (asked.step_s - exchange_s) / batch
    return Fit(dataclasses.replace(alone.model, example_s=example_s), alone.assumed)


# --- what runs say --------------------------------------------------------------------------------


def of_run(name: str, folder: Store, size: float) -> list[Measured]:
    """A measured step for each number of replicas that a run had."""
    try:
        found = measured(folder, size)
    except (KeyMissing, ValueError, TypeError):
        raise UserError(letter("--measured", f"run {name} has no plan.json that can be read")) from None
    if not found:
        came = f"the journal of run {name} tells the times of no steps but the first ones, which compile"
        raise UserError(letter("--measured", came, do="give a run that has trained for a while"))
    return found


def _differences(name: str, folder: Store, plan: Plan) -> list[str]:
    """In what a measured run is of another job, as far as a step's time depends on it."""
    theirs, ours = json.loads(folder.read("plan.json"))["spec"], plan.spec.document()
    other = [key for key in _WEIGHTY if theirs.get(key) != ours.get(key)]
    other += [f"strategy.{key}" for key in ("kind", "cpus_per_worker")
              if theirs["strategy"].get(key) != ours["strategy"].get(key)]  # fmt: skip
    return [f"run {name} is of a job with another {', '.join(other)}"] if other else []


def measured(folder: Store, size: float = 0.0) -> list[Measured]:
    """The median step of a run by number of replicas, least first, without the first entry of each attempt.

    Args:
        folder: the run's.
        size: bytes of gradients, for a model whose parameters the run's plan does not know.
    """
    document = json.loads(folder.read("plan.json"))
    size = GRADIENT_BYTES * document["parameters"] if document["parameters"] else size
    rows: dict[int, list[dict[str, float]]] = {}
    for entries in journal.lives(folder):
        replicas = next((entry.get("replicas", 0) for entry in entries if entry["type"] == "start"), 0)
        told = [entry["values"] for entry in entries if entry["type"] == "metrics"]
        timed = [values for values in told if values.keys() >= set(_TIMES)]
        if replicas and timed[1:]:  # the first one compiled
            rows.setdefault(replicas, []).extend(timed[1:])
    return [Measured(_median(n, document["global_batch"] / n, rows[n]), size) for n in sorted(rows)]


def _median(replicas: int, batch: float, rows: list[dict[str, float]]) -> Step:
    step_s, compute_s, exchange_s = (statistics.median(row[name] for row in rows) for name in _TIMES)
    return Step(replicas, batch, compute_s, exchange_s, max(0.0, step_s - compute_s - exchange_s))


# --- the table ------------------------------------------------------------------------------------


def lines(found: Forecast) -> Iterator[str]:
    """What the forecast says."""
    yield _title(found)
    yield from columns.aligned(_parts(found), indent="  ")
    yield ""
    seen = {each.step.replicas: each.step for each in found.measured if _is_of(each.step, found)}
    steps = [found.step(replicas) for replicas in found.replicas]
    rows = [_row(found, step) for step in steps]
    if seen:
        rows = [(*row, _time(seen[step.replicas].step_s) if step.replicas in seen else stored.NOTHING)
                for row, step in zip(rows, steps, strict=True)]  # fmt: skip
    yield from columns.aligned([(*_HEAD, "measured") if seen else _HEAD, *rows])
    for replicas in found.refused:
        near = " or ".join(map(str, forecast.nearest(replicas, found.plan.global_batch)))
        yield f"{replicas}: {found.plan.global_batch} examples cannot be divided evenly over them; {near} can"


def _is_of(step: Step, found: Forecast) -> bool:
    """Whether a measured step had the batch that the forecast is of."""
    return step.batch == found.step(step.replicas).batch


def _title(found: Forecast) -> str:
    plan = found.plan
    if found.weak:
        job = f"{plan.batch_per_replica:,} examples a step on each replica"
        return f"forecast of {plan.spec.name}: {job}, {plan.steps * plan.global_batch:,} examples in all"
    job = f"{plan.global_batch:,} examples a step over all replicas"
    return f"forecast of {plan.spec.name}: {job}, {plan.steps:,} steps"


def _parts(found: Forecast) -> list[tuple[str, str]]:
    model = found.fit.model
    way = f"{columns.size(round(found.size))}, {_time(model.begin_s)} to begin, {_way(model.network)}"
    return [
        ("compute", f"{_time(model.fixed_s)} + {_time(model.example_s)} an example"),
        ("exchange", way),
        ("other", _time(model.other_s)),
        *[("assumed", text) for text in found.fit.assumed],
        *[("beware", text) for text in found.notes],
    ]


def _way(network: Network) -> str:
    between = _link(network.between)
    if network.within is None:
        return f"then one ring: {between}"
    within = f"{network.per_host} replicas of a host: {_link(network.within)}"
    return f"then on two levels: {within}; hosts: {between}"


def _link(link: Link) -> str:
    speed = f"{link.gbits:.3g} Gbit/s" if math.isfinite(link.gbits) else "bytes take no time"
    return f"{speed}, {_time(link.latency_s)} a message"


def _row(found: Forecast, step: Step) -> tuple[str, ...]:
    times = (step.step_s, step.compute_s, step.exchange_s, step.other_s)
    rate = step.examples_per_s
    return (
        f"{step.replicas:,}",
        f"{step.batch:,.0f}",
        *map(_time, times),
        f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}",
        f"{forecast.efficiency(step, found.step(1)):.1%}",
        columns.duration(found.whole_s(step)),
    )


def _time(seconds: float) -> str:
    """12 us, 3.4 ms, 1.2 s."""
    for unit_s, unit in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= unit_s:
            return f"{seconds / unit_s:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us" if seconds else "0"
