"""What every strategy offers, and how one is chosen."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

Batch = dict[str, Any]
"""A batch on the host (NumPy) or inside a compiled function (tensors), by name."""

Replicated = Callable[[Sequence[Batch]], list[Batch]]
"""A compiled function: one batch a local replica in, one dict of arrays a local replica out."""


class Strategy(Protocol):
    """Data parallelism, and nothing of models.

    A *replica* is one copy of the model on one device; `replicas` counts them over all workers. The
    methods below `compile` are for use inside a function given to `compile`.
    """

    kind: str
    rank: int
    workers: int
    replicas: int
    local_replicas: int

    def scope(self) -> AbstractContextManager[Any]:
        """Where variables must be created."""
        ...

    def compile(self, function: Callable[[Batch], Batch], *, name: str) -> Replicated:
        """Make `function` run on every replica, as one compiled program."""
        ...

    def sum(self, tensors: list[Any]) -> list[Any]:
        """Sums over all replicas, the same bits on each; one exchange for the whole list."""
        ...

    def apply(self, optimizer: Any, gradients: list[Any], variables: list[Any]) -> None:
        """Update `variables` by gradients that are already summed over replicas."""
        ...

    def replica(self) -> Any:
        """This replica's number among all: int32 scalar tensor."""
        ...

    def close(self) -> None:
        """Leave the group. The strategy cannot be used afterwards."""
        ...


_KINDS = {
    "single": "lehr.strategies.single:Single",
    "mirrored": "lehr.strategies.distribute:Mirrored",
    "multiworker": "lehr.strategies.distribute:MultiWorker",
    "horovod": "lehr.strategies.horovod:Horovod",
}


def make(kind: str, *, devices: int) -> Strategy:
    """The strategy of that `kind`, with `devices` a worker; joins the group in the environment."""
    module, attribute = _KINDS[kind].split(":")
    strategy: Strategy = getattr(importlib.import_module(module), attribute)(devices)
    return strategy
