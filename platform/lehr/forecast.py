"""What a step would take on other numbers of replicas, from steps that were measured. Arithmetic alone.

    step(n) = compute(batch of a replica) + exchange(n) + other

Compute is a fixed part and a part for each example. The exchange is a ring (Patarasuk and Yuan 2009): every
replica sends 2 (n - 1) / n of the gradients' bytes, in 2 (n - 1) messages one after another, each of which
waits for the link's latency (Thakur, Rabenseifner and Gropp 2005). Before it, replicas agree on what is to be
summed (Sergeev and Del Balso 2018, arXiv:1802.05799) and wait for the last of them: a time that is taken to
be the same for any number. Other is the rest of a step: data, journal, checkpoints.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_BITS = 8e-9  # Gbit in a byte


@dataclass(frozen=True)
class Link:
    """What a byte and a message take on the way."""

    byte_s: float
    latency_s: float

    @classmethod
    def of(cls, *, gbits: float, latency_us: float) -> Link:
        """A link by the numbers on its label."""
        return cls(_BITS / gbits, latency_us * 1e-6)

    @property
    def gbits(self) -> float:
        """Gbit/s; infinite where a byte takes no time that was seen."""
        return _BITS / self.byte_s if self.byte_s else math.inf

    def ring_s(self, size: float, members: int) -> float:
        """Seconds to sum `size` bytes over a ring of so many."""
        sent, messages = ring(size, members)
        return sent * self.byte_s + messages * self.latency_s


ASSUMED = Link.of(gbits=10, latency_us=50)
"""Of hosts in one data centre, where nothing is known."""


def ring(size: float, members: int) -> tuple[float, int]:
    """What it takes each of a ring to sum `size` bytes: bytes sent, and messages one after another."""
    return 2 * (members - 1) / members * size, 2 * (members - 1)


@dataclass(frozen=True)
class Network:
    """The way of the gradients.

    Without `within` they take one ring through all replicas, which is as slow as its slowest link. With it
    they are summed on two levels: scattered over the replicas of a host, each part on a ring of hosts, and
    gathered again.

    Args:
        between: the link between hosts.
        within: the link between replicas of one host.
        per_host: replicas on a host.
    """

    between: Link
    within: Link | None = None
    per_host: int = 1

    def hosts(self, replicas: int) -> int:
        """Members of the ring between hosts."""
        return replicas if self.within is None else math.ceil(replicas / self.per_host)

    def inside_s(self, size: float, replicas: int) -> float:
        """Seconds that the bytes are under way within hosts."""
        return self.within.ring_s(size, min(replicas, self.per_host)) if self.within else 0.0

    def way_s(self, size: float, replicas: int) -> float:
        """Seconds that the bytes are under way."""
        return self.inside_s(size, replicas) + self.between.ring_s(size, self.hosts(replicas))


@dataclass(frozen=True)
class Step:
    """One step's seconds. Batch is of one replica, in examples."""

    replicas: int
    batch: float
    compute_s: float
    exchange_s: float
    other_s: float = 0.0

    @property
    def step_s(self) -> float:
        return self.compute_s + self.exchange_s + self.other_s

    @property
    def examples_per_s(self) -> float:
        """Of all replicas together."""
        return self.replicas * self.batch / self.step_s


@dataclass(frozen=True)
class Measured:
    """A step that was seen, and the bytes of gradients that it exchanged."""

    step: Step
    size: float


@dataclass(frozen=True)
class Model:
    """What a step is made of.

    Args:
        fixed_s: compute that does not depend on the batch.
        example_s: compute of one example on one replica.
        begin_s: of an exchange, before the first byte is sent.
        other_s: the rest of a step.
        network: the way of the gradients.
    """

    fixed_s: float
    example_s: float
    begin_s: float
    other_s: float
    network: Network

    def step(self, replicas: int, *, batch: float, size: float) -> Step:
        """The step of so many replicas with `batch` examples each, which exchange `size` bytes."""
        exchange_s = self.begin_s + self.network.way_s(size, replicas) if replicas > 1 else 0.0
        return Step(replicas, batch, self.fixed_s + self.example_s * batch, exchange_s, self.other_s)


def efficiency(step: Step, alone: Step) -> float:
    """How much of a replica's rate alone is left when so many work together."""
    return step.examples_per_s / (step.replicas * alone.examples_per_s)


@dataclass(frozen=True)
class Known:
    """What is known of the network; None is fitted, or assumed where there is too little to fit."""

    byte_s: float | None = None
    latency_s: float | None = None
    within: Link | None = None
    per_host: int = 1


@dataclass(frozen=True)
class Fit:
    """A model and which of its parts were assumed, in words."""

    model: Model
    assumed: tuple[str, ...]


def fit(measured: Sequence[Measured], known: Known) -> Fit:
    """The model that comes nearest to measured steps, by least squares with no part below 0.

    Compute needs steps of two batches for both its parts. An exchange needs one number of replicas for its
    beginning, another for the bandwidth and a third for the latency, as far as `known` does not say them.
    """
    fixed_s, example_s, told_of_compute = _compute([each.step for each in measured])
    begin_s, between, told_of_exchange = _exchange(
        [each for each in measured if each.step.replicas > 1], known
    )
    other_s = statistics.median(each.step.other_s for each in measured)
    network = Network(between, known.within, known.per_host)
    return Fit(Model(fixed_s, example_s, begin_s, other_s, network), (*told_of_compute, *told_of_exchange))


def _compute(steps: Sequence[Step]) -> tuple[float, float, list[str]]:
    times = [step.compute_s for step in steps]
    if len({step.batch for step in steps}) == 1:
        return 0.0, statistics.mean(times) / steps[0].batch, ["compute has no fixed part: one batch is known"]
    fixed_s, example_s = least_squares([[1.0, step.batch] for step in steps], times)
    return fixed_s, example_s, []


def _exchange(measured: Sequence[Measured], known: Known) -> tuple[float, Link, list[str]]:
    """The beginning and the link between hosts. What cannot be told apart from the beginning is assumed."""
    parts = [0.0, _or(known.byte_s, ASSUMED.byte_s), _or(known.latency_s, ASSUMED.latency_s)]
    network = Network(ASSUMED, known.within, known.per_host)
    rows = [[1.0, *ring(each.size, network.hosts(each.step.replicas))] for each in measured]
    free = _free(rows, known)
    fixed = [i for i in (1, 2) if i not in free]
    rest = [
        each.step.exchange_s
        - network.inside_s(each.size, each.step.replicas)
        - sum(row[i] * parts[i] for i in fixed)
        for each, row in zip(measured, rows, strict=True)
    ]
    found = least_squares([[row[i] for i in free] for row in rows], rest)
    for i, value in zip(free, found, strict=True):
        parts[i] = value
    return parts[0], Link(parts[1], parts[2]), _assumed(free, known)


def _or(given: float | None, assumed: float) -> float:
    return assumed if given is None else given


def _free(rows: list[list[float]], known: Known) -> list[int]:
    """Columns to fit: beginning, bytes, messages; each as far as the ones before do not tell it."""
    free: list[int] = []
    scaled = np.asarray(rows) / _sizes(rows) if rows else np.zeros((0, 3))
    for i, given in enumerate((None, known.byte_s, known.latency_s)):
        if given is None and np.linalg.matrix_rank(scaled[:, [*free, i]]) == len(free) + 1:
            free.append(i)
    return free


def _sizes(rows: Sequence[Sequence[float]]) -> np.ndarray:
    """The largest number of each column: bytes and seconds differ by many orders."""
    largest: np.ndarray = np.abs(rows).max(axis=0)
    return np.where(largest > 0, largest, 1.0)


def _assumed(free: list[int], known: Known) -> list[str]:
    told = []
    if 1 not in free and known.byte_s is None:
        told.append(f"the link has {ASSUMED.gbits:g} Gbit/s")
    if 2 not in free and known.latency_s is None:
        told.append(f"a message takes {ASSUMED.latency_s * 1e6:g} us")
    if 0 not in free:
        told.append("replicas never wait for each other: no exchange is known")
    return told


def least_squares(rows: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    """x >= 0 with the least |rows x - values|: the best of the least squares over some columns each."""
    if not rows:
        return []
    sizes, wanted = _sizes(rows), np.asarray(values)
    best, least = np.zeros(len(sizes)), float(np.square(wanted).sum())
    for chosen in _choices(len(sizes)):
        matrix = (np.asarray(rows) / sizes)[:, chosen]
        found = np.linalg.lstsq(matrix, wanted, rcond=None)[0]
        error = float(np.square(matrix @ found - wanted).sum())
        if (found >= 0).all() and error < least:
            best, least = np.zeros(len(sizes)), error
            best[chosen] = found / sizes[chosen]
    return [float(part) for part in best]


def _choices(count: int) -> list[list[int]]:
    """All choices of columns, few first: of parts that explain as much, the fewer are taken."""
    return [
        list(chosen) for size in range(1, count + 1) for chosen in itertools.combinations(range(count), size)
    ]


def nearest(replicas: int, batch: int) -> tuple[int, ...]:
    """The numbers of replicas next to `replicas` over which a batch divides evenly."""
    evenly = [n for n in range(1, batch + 1) if batch % n == 0]
    below, above = [n for n in evenly if n <= replicas], [n for n in evenly if n >= replicas]
    return tuple(dict.fromkeys((*below[-1:], *above[:1])))
