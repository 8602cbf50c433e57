"""The replay buffer of chains (Du and Mordatch 2019), stratified by slot, on the host.

Slot i of the global batch owns a ring of size / global batch chains and draws from it alone. So the buffer is
cut with the batch, needs no traffic between workers, and moves slot by slot when their number changes. All
choices are addressed by (seed, step, global slot): who holds a slot changes nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lehr import seeds
from lehr.errors import UserError, letter
from lehr.seeds import Purpose

_BEGINNING, _DURING = 1, 0


@dataclass(frozen=True)
class Slots:
    """Which slots of the global batch a worker holds: `count` from `first`, of `total`."""

    first: int
    count: int
    total: int


class ReplayBuffer:
    """Where chains rest between training steps.

    A slot starts as one image of uniform noise. At each step it goes on from a fresh image of noise, or from
    a chain of its ring, drawn with replacement; what the chain becomes goes to the front of the ring, and
    the oldest falls out.

    Args:
        shape: of one image, [height, width, channels].
        slots: held here.
        size: chains over all slots; a multiple of `slots.total`.
        fresh: chance of starting from noise.
        seed: of the run.

    Raises:
        UserError: `size` is no multiple of the global batch.
    """

    def __init__(self, shape: tuple[int, ...], slots: Slots, *, size: int, fresh: float, seed: int) -> None:
        if size < slots.total or size % slots.total:
            raise UserError(
                letter(
                    "sampler.buffer.size",
                    f"{size} chains cannot be shared by {slots.total} slots",
                    accepted="a multiple of train.global_batch",
                    do=f"set sampler.buffer.size: {max(1, round(size / slots.total)) * slots.total}",
                )
            )
        self._shape, self._slots, self._fresh, self._seed = tuple(shape), slots, fresh, seed
        self._capacity = size // slots.total
        self._rows = np.arange(slots.count)
        self._chains = np.zeros((slots.count, self._capacity, *shape), np.float32)
        self._ages = np.zeros((slots.count, self._capacity), np.int64)
        self._newest = np.zeros(slots.count, np.int64)  # where in its ring
        self._filled = np.ones(slots.count, np.int64)
        self._drawn = np.zeros(slots.count, np.int64)  # ages of what was drawn last
        for row in range(slots.count):
            self._chains[row, 0] = self._uniform(0, row, _BEGINNING)

    def draw(self, step: int) -> dict[str, np.ndarray]:
        """`start`: float32 [slots, height, width, channels] in [-1, 1], where the chains of `step` start.
        And of each slot's ring, float32 [slots]: `age`, the mean age of its chains, and `oldest`, the
        highest."""
        everybody = seeds.uniform(self._seed, Purpose.CHAIN_SOURCE, (step, 0, 0), 2 * self._slots.total)
        mine = everybody.reshape(-1, 2)[self._slots.first : self._slots.first + self._slots.count]
        back = (mine[:, 1] * self._filled).astype(np.int64)  # 0 is the newest
        place = (self._newest - back) % self._capacity
        start = self._chains[self._rows, place]
        self._drawn = self._ages[self._rows, place]
        for row in np.flatnonzero(mine[:, 0] < self._fresh).tolist():
            start[row] = self._uniform(step, row, _DURING)
            self._drawn[row] = 0
        return {"start": start} | self._told()

    def keep(self, step: int, products: dict[str, np.ndarray]) -> None:
        """Put `chain`, float32 [slots, height, width, channels], to the front: what the last draw became."""
        self._newest = (self._newest + 1) % self._capacity
        self._filled = np.minimum(self._filled + 1, self._capacity)
        self._chains[self._rows, self._newest] = products["chain"]
        self._ages[self._rows, self._newest] = self._drawn + 1

    def ages(self) -> np.ndarray:
        """Training steps behind each chain that rests here: int64 [chains], slot by slot, newest first."""
        back = np.arange(self._capacity)
        places = (self._newest[:, None] - back) % self._capacity
        return self._ages[self._rows[:, None], places][back < self._filled[:, None]]

    def state(self) -> dict[str, np.ndarray]:
        """Copies: `chains` float32 [slots, capacity, ...], `ages` int64 [slots, capacity], `newest` and
        `filled` int64 [slots]."""
        return {name: array.copy() for name, array in self._parts().items()}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from a `state` of the same slots.

        Raises:
            UserError: it is of another size or of other images.
        """
        for name, array in self._parts().items():
            if name not in state or state[name].shape != array.shape:
                came = state[name].shape if name in state else "nothing"
                raise UserError(
                    letter(
                        f"checkpoint: {name}",
                        f"{came} where {array.shape} is wanted",
                        accepted="chains of the same global batch, buffer size and image size",
                        do="set sampler.buffer.size as in the run that made the checkpoint",
                    )
                )
        for name, array in self._parts().items():
            array[...] = state[name]

    def _told(self) -> dict[str, np.ndarray]:
        """What is reported of the rings: a number a slot, so that it is shared out as the batch is. Places
        that are not filled yet are of age 0."""
        mean = self._ages.sum(axis=1) / self._filled
        return {"age": mean.astype(np.float32), "oldest": self._ages.max(axis=1).astype(np.float32)}

    def _parts(self) -> dict[str, np.ndarray]:
        return {"chains": self._chains, "ages": self._ages, "newest": self._newest, "filled": self._filled}

    def _uniform(self, step: int, row: int, phase: int) -> np.ndarray:
        address = (step, self._slots.first + row, phase)
        unit = seeds.uniform(self._seed, Purpose.CHAIN_FRESH, address, math.prod(self._shape))
        return (2.0 * unit - 1.0).astype(np.float32).reshape(self._shape)
