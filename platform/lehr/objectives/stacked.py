"""Greedy training of a stack of restricted Boltzmann machines, one after the other, in one run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from lehr.dynamics.gibbs import OTHER, Coins
from lehr.objectives.objective import Batch
from lehr.objectives.phases import Settings, squared_error
from lehr.objectives.restricted import looks, phases


class Stacked:
    """The phases of a deep belief network (Hinton, Osindero and Teh 2006).

    Step s trains machine min(s / layer_steps, last) on hidden units drawn from those below it, whose weights
    have got their last value: no other weight has a gradient. A chain rests as the hidden units of all
    machines side by side; those of the trained one move.

    The layer is told by the step, so a resumed run goes on in the same one. At the first step of a layer the
    optimizer starts anew: each layer is trained as if it were alone, and momentum does not move those before.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def prepare(self, model: Any, batch: Batch) -> Batch:
        """As of the machine that is trained; every array as wide as the widest machine's."""
        coins, stack = self._settings.coins(batch), model.stack
        units = model.flat(batch["input"])
        start = batch.get("start")
        visible, hidden = (max(getattr(machine, side) for machine in stack) for side in ("visible", "hidden"))

        def train(layer: int) -> tuple[Any, ...]:
            machine, place = stack[layer], _places(stack)[layer]
            below = upwards(stack[:layer], units, coins)
            resting = None if start is None else start[:, place]
            made = phases(machine, below, resting, self._settings, coins)
            found = (_widened(made["visible"], visible), _widened(made["hidden_input"], hidden))
            return found if start is None else (*found, _put(start, place, made["chain"]))

        names = ("visible", "hidden_input") + (() if start is None else ("chain",))
        return dict(zip(names, self._in_turn(batch, train, len(stack)), strict=True))

    def energies(self, model: Any, batch: Batch) -> tuple[Any, Any]:
        """Free energies of the machine that is trained."""

        def of(layer: int) -> Any:
            machine = model.stack[layer]
            visible = batch["visible"][:, : machine.visible]
            return machine.free_energy(visible, batch["hidden_input"][:, : machine.hidden])

        both = self._in_turn(batch, of, len(model.stack))
        return both[: tf.shape(both)[0] // 2], both[tf.shape(both)[0] // 2 :]

    def squares(self, model: Any, batch: Batch) -> Any:
        """Of the weights of the machine that is trained."""

        def of(layer: int) -> Any:
            return tf.reduce_sum(tf.convert_to_tensor(model.stack[layer].kernel.value) ** 2)

        return self._in_turn(batch, of, len(model.stack))

    def validate(self, model: Any, batch: Batch) -> Batch:
        """Of the top machine, on units drawn upwards; the reconstruction is of the pixels, through the whole
        stack and back. Held-out batches do not tell the step: all is of the whole from the beginning."""
        coins, stack = self._settings.held_out_coins(batch), model.stack
        units = model.flat(batch["input"])
        found = looks(stack[-1], upwards(stack[:-1], units, coins), coins)
        likely = model(batch["input"])
        for machine in reversed(stack):
            log_odds = machine.visible_input(likely)
            likely = tf.sigmoid(log_odds)
        return found | {"reconstruction": squared_error(units, log_odds)}

    def _in_turn(self, batch: Batch, branch: Callable[[int], Any], layers: int) -> Any:
        """`branch` of the machine that the batch's step trains; the others' are not run."""
        turn = tf.minimum(batch["step"] // self._settings.layer_steps, layers - 1)
        return tf.switch_case(
            tf.cast(turn, tf.int32), [lambda layer=layer: branch(layer) for layer in range(layers)]
        )


def upwards(stack: list[Any], units: Any, coins: Coins) -> Any:
    """Hidden units of the last machine of `stack`, drawn layer by layer from visible ones."""
    for layer, machine in enumerate(stack):
        units = coins.toss(machine.hidden_input(units), OTHER + layer)
    return units


def _places(stack: list[Any]) -> list[slice]:
    """Where each machine's hidden units stand in a chain."""
    places, begin = [], 0
    for machine in stack:
        places.append(slice(begin, begin + machine.hidden))
        begin += machine.hidden
    return places


def _put(row: Any, place: slice, units: Any) -> Any:
    return tf.concat([row[:, : place.start], units, row[:, place.stop :]], 1)


def _widened(units: Any, width: int) -> Any:
    """With zeros to `width` columns."""
    return tf.pad(units, [[0, 0], [0, width - units.shape[1]]])
