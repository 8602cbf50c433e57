"""What an objective and a memory offer to the training loop."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

Batch = dict[str, Any]
"""Tensors by name. Always there: `input` and `target` [batch, ...], `weight` float32 [batch] (0 where the
row holds no example), and scalars `step` int64 (the 0-based batch index), `first` int64 (global position of
the first row), `count` float32 (true examples in the global batch), `units` float32 (what these count,
such as words: of most data 1 each), `slots` float32 (the global batch)."""

Shares = dict[str, Any]
"""Local shares of metrics by name, float32 scalars: the sum over all replicas is the metric."""


class Memory(Protocol):
    """State of an objective that lives on the host between steps: one row a slot of the global batch.

    NumPy only. What a slot draws depends on its global number, never on the worker that holds it.
    """

    def draw(self, step: int) -> dict[str, np.ndarray]:
        """Arrays [slots, ...] that join the batch of the 0-based batch index `step`."""
        ...

    def keep(self, step: int, products: dict[str, np.ndarray]) -> None:
        """Take what the objective made at `step`: its products, arrays [slots, ...]."""
        ...

    def state(self) -> dict[str, np.ndarray]:
        """Copies of everything that a resumed run needs: arrays whose leading axis is the slots held here."""
        ...

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from a `state`, cut to the slots held here."""
        ...


class Objective(Protocol):
    """What one step minimises. Knows a model, nothing of ranks or time.

    All methods but `memory` are called inside a compiled function, on one replica's rows. Losses and
    metrics are sums over those rows divided by a global count, so shares add over replicas.
    The count of validation's is the batch's `count`, unless the objective has an attribute `per` = "units".
    One that trains parts of a model in turn has a method `anew(batch)`, a bool scalar: the optimizer forgets
    what it has gathered before this step's update.
    """

    metrics: tuple[str, ...]
    """Names that `loss` reports, in the order of reporting."""

    validation_metrics: tuple[str, ...]
    """Names that `validate` reports, in the order of reporting."""

    products: tuple[str, ...]
    """Names that `prepare` adds to the batch and that go back to the host, [batch, ...] each."""

    def prepare(self, model: Any, batch: Batch) -> Batch:
        """Outside the tape: what must exist before the loss, such as chains, joins the batch."""
        ...

    def loss(self, model: Any, batch: Batch) -> tuple[Any, Shares]:
        """The local share of the loss, float32 scalar, and those of `metrics`."""
        ...

    def validate(self, model: Any, batch: Batch) -> Shares:
        """The local shares of `validation_metrics` on held-out rows."""
        ...

    def memory(
        self, *, shape: tuple[int, ...], slots: int, first_slot: int, global_slots: int
    ) -> Memory | None:
        """The memory of a worker that owns global slots [first_slot, first_slot + slots), if there is any.

        Args:
            shape: of one example, without the batch axis.
            slots: held by this worker.
            first_slot: global number of the first of them.
            global_slots: the global batch.
        """
        ...
