"""Several processes of one device each, under Horovod (Sergeev and Del Balso 2018, arXiv:1802.05799)."""

from __future__ import annotations

from typing import Any

from lehr.errors import LaunchError, letter
from lehr.strategies.single import Single


def _load() -> Any:
    try:
        import horovod.tensorflow as horovod
    except ImportError as error:
        raise LaunchError(
            letter(
                "strategy.kind: horovod",
                f"Horovod cannot be loaded ({error})",
                do="build it with `make setup`, or choose another strategy; `lehr doctor` tells more",
            )
        ) from error
    return horovod


class Horovod(Single):
    """Replica r is worker r. The launcher's environment (HOROVOD_*) says who is who.

    Gradients go through one `grouped_allreduce`: a group fuses as a whole, so the order of summation
    does not depend on which tensor was ready first, and a resumed run repeats it to the bit.
    `hvd.DistributedOptimizer` is not used: on Keras 3 it hooks nothing and would train unsynchronised.
    """

    kind = "horovod"

    def __init__(self, devices: int = 1) -> None:
        super().__init__(devices)
        self._horovod = _load()
        self._horovod.init()
        self.rank = self._horovod.rank()
        self.workers = self.replicas = self._horovod.size()

    def sum(self, tensors: list[Any]) -> list[Any]:
        return list(self._horovod.grouped_allreduce(tensors, op=self._horovod.Sum))

    def close(self) -> None:
        self._horovod.shutdown()
