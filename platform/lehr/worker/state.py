"""The complete state of a run on one worker, to and from NumPy."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from lehr.checkpoint.parts import State
from lehr.errors import UserError, letter
from lehr.objectives.objective import Memory


def named_weights(model: Any) -> dict[str, Any]:
    """All variables of `model` by their path below the model: `conv_1/kernel`, ..."""
    return _unique({v.path.removeprefix(f"{model.name}/"): v for v in model.variables}, model.variables)


def named_slots(optimizer: Any) -> dict[str, Any]:
    """All variables of `optimizer`, in order: `0002/conv_1_kernel_momentum`, ..."""
    return {f"{index:04d}/{v.name}": v for index, v in enumerate(optimizer.variables)}


def _unique(named: dict[str, Any], variables: list[Any]) -> dict[str, Any]:
    if len(named) != len(variables):
        paths = sorted(v.path for v in variables)
        raise ValueError(f"variables of one model need different paths: {paths}; give its layers names")
    return named


def _copy(named: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.array(v.numpy()) for name, v in named.items()}


class Snapshot:
    """Reads and writes everything that a step changes.

    Args:
        model: Keras model.
        slots: optimizer variables, and the loss scale's, by name.
        memory: chains on the host, or None.
        first_slot: global number of this worker's first slot.
    """

    def __init__(self, model: Any, slots: dict[str, Any], memory: Memory | None, *, first_slot: int) -> None:
        self._weights, self._slots, self._memory = named_weights(model), slots, memory
        self._first_slot = first_slot

    @property
    def variables(self) -> dict[str, Any]:
        """Weights and slots as TensorFlow variables, by name."""
        named = {f"weights/{k}": v for k, v in self._weights.items()} | {
            f"optimizer/{k}": v for k, v in self._slots.items()
        }
        return {name: v.value if isinstance(v, keras.Variable) else v for name, v in named.items()}

    def take(self, progress: dict[str, Any], *, rank: int) -> State:
        """A copy of the state now. Ranks other than 0 copy only their chains: weights are the same on all."""
        chains = {} if self._memory is None else self._memory.state()
        count = len(next(iter(chains.values()))) if chains else 0
        return State(
            weights=_copy(self._weights) if rank == 0 else {},
            optimizer=_copy(self._slots) if rank == 0 else {},
            chains=chains,
            first_slot=self._first_slot,
            slots=count,
            progress=progress,
        )

    def put(self, state: State) -> None:
        """Become `state`; shapes and names must be those of this model."""
        assign(self._weights, state.weights, what="weights")
        assign(self._slots, state.optimizer, what="optimizer")
        if self._memory is not None:
            self._memory.restore(state.chains)


def assign(variables: dict[str, Any], values: dict[str, np.ndarray], *, what: str) -> None:
    """Give each variable its value by name.

    Raises:
        UserError: names or shapes differ: the checkpoint is of another model.
    """
    wanted = {name: tuple(v.shape) for name, v in variables.items()}
    came = {name: tuple(a.shape) for name, a in values.items()}
    if wanted != came:
        odd = sorted(name for name in wanted.keys() | came.keys() if wanted.get(name) != came.get(name))
        raise UserError(
            letter(
                f"checkpoint, {what}",
                f"it is of another model: {odd[0]} is {came.get(odd[0], 'absent')} there "
                f"and {wanted.get(odd[0], 'absent')} here ({len(odd)} differ)",
                do="use the model settings that the checkpoint was made with, or train under another --run",
            )
        )
    for name, variable in variables.items():
        variable.assign(values[name])
