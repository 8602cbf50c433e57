"""Samples of Boltzmann machines by Gibbs chains from fair coins, addressed by (seed, chain) alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import tensorflow as tf

from lehr.dynamics.gibbs import Coins, Net, trajectory, unit_sweeps
from lehr.dynamics.noise import Noise
from lehr.dynamics.samples import marks
from lehr.figures.grid import grid
from lehr.figures.strip import strip
from lehr.plan import Plan
from lehr.samples import Drawn
from lehr.seeds import Purpose
from lehr.worker.build import xla
from lehr.worker.sampling import Wanted

BLACK_AND_WHITE = (0.0, 1.0)

Walk = Callable[[Any, Coins, Coins, int, Sequence[int]], tuple[list[Any], Any]]
"""From a model, the coins of starts and of chains, a count and marks to the log-odds of the visible units at
each mark, given all other units, float32 [count, visible]; and to the visible units at the last."""


class Gibbs:
    """Draws from a machine of binary units; compiles once for each count and number of steps.

    What it draws has the arrays `images` float32 [count, *shape], the ends of the chains, each pixel 0 or 1;
    `probabilities`, shaped the same, of each pixel there given all other units; and `frames` float32
    [frames, count, *shape], such probabilities along each chain. Its facts say after how many sweeps.

    Args:
        plan: of the run.
        model: its network, built.
        assets: not used.
    """

    def __init__(self, plan: Plan, model: Any, assets: Mapping[str, bytes]) -> None:
        self._plan, self._model = plan, model
        self._walk = WALKS[plan.spec.model.kind]
        self._programs: dict[tuple[int, int, int], Any] = {}

    def draw(self, wanted: Wanted) -> Drawn:
        """`wanted.count` chains of `wanted.steps` sweeps."""
        shape, at = tuple(self._plan.spec.data.shape), marks(wanted.steps)
        frames, images = (np.asarray(part) for part in self._program(wanted)())
        frames = frames.reshape(len(at), wanted.count, *shape)
        images = images.reshape(wanted.count, *shape)
        return Drawn(
            count=wanted.count,
            arrays={"images": images, "probabilities": frames[-1], "frames": frames},
            pictures=_pictures(frames, at),
            facts={
                "sampler": {"kind": "gibbs"},
                "steps": wanted.steps,
                "frame_steps": list(at),
                "purposes": {"start": Purpose.SAMPLE_START.name, "noise": Purpose.SAMPLE_NOISE.name},
            },
        )

    def _program(self, wanted: Wanted) -> Any:
        key = (wanted.count, wanted.steps, wanted.seed)
        if key not in self._programs:  # tracing takes seconds
            program = tf.function(lambda: self._chains(*key), autograph=False, jit_compile=xla(self._plan))
            self._programs = {key: program}  # few come back to a seed
        return self._programs[key]

    def _chains(self, count: int, steps: int, seed: int) -> tuple[Any, Any]:
        start, coins = (Coins(Noise(seed, p)) for p in (Purpose.SAMPLE_START, Purpose.SAMPLE_NOISE))
        log_odds, images = self._walk(self._model, start, coins, count, marks(steps))
        return tf.stack([tf.sigmoid(one) for one in log_odds]), images


def _pictures(frames: np.ndarray, at: Sequence[int]) -> dict[str, bytes]:
    """Of what can be shown: images of one or three channels."""
    if frames.ndim != 5 or frames.shape[-1] not in (1, 3):
        return {}
    shown = list(range(len(at)))
    return {
        "grid": grid(frames[-1], BLACK_AND_WHITE),
        "strip": strip(frames[shown, 0], list(at), BLACK_AND_WHITE),
    }


def _layers(model: Any, start: Coins, coins: Coins, count: int, at: Sequence[int]) -> tuple[list[Any], Any]:
    hidden = start.toss(tf.zeros([count, model.hidden]), 0)
    seen = [model.visible_input(state) for state in trajectory(model, hidden, coins, at=at)]
    return seen, start.toss(seen[-1], 1)


def _all(model: Any, start: Coins, coins: Coins, count: int, at: Sequence[int]) -> tuple[list[Any], Any]:
    """Of a machine whose units are all connected. Its pixels depend on each other, so none is drawn again."""
    net, units = Net(model.couplings(), model.biases()), model.visible + model.hidden
    state, seen = start.toss(tf.zeros([count, units]), 0), []
    for before, mark in pairwise((0, *at)):
        if mark > before:
            state = unit_sweeps(net, state, coins, steps=mark - before, of=(0, units), start=before)
        seen.append((tf.matmul(state, net.couplings) + net.biases)[:, : model.visible])
    return seen, state[:, : model.visible]


def _downwards(
    model: Any, start: Coins, coins: Coins, count: int, at: Sequence[int]
) -> tuple[list[Any], Any]:
    """Chains in the top machine; from each state one draw down to the pixels, the same coins for each."""
    *below, top = model.stack
    seen = []
    for log_odds in _layers(top, start, coins, count, at)[0]:
        for depth, machine in enumerate(reversed(below)):
            log_odds = machine.visible_input(start.toss(log_odds, 2 + depth))
        seen.append(log_odds)
    return seen, start.toss(seen[-1], 1)


WALKS: dict[str, Walk] = {"rbm": _layers, "boltzmann": _all, "dbn": _downwards}
