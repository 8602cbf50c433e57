"""Ray Train's side of a rendezvous: how a group of Ray workers is told who it is.

Ray's own TensorFlow backend is not used: it sets TF_USE_LEGACY_KERAS in every worker. Ray Train V2 has no
Horovod backend any more.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.train.backend import Backend, BackendConfig

from lehr import journal
from lehr import store as stores
from lehr.launch import entry, hosts, rendezvous
from lehr.launch.rendezvous import Environment, Place, Port, Rendezvous
from lehr.plan import restore

REASON = "LEHR_REASON"  # why an attempt that is not the first began: JSON, for the journal of rank 0
_held: list[Port] = []  # in a worker: its port, until the process ends


@dataclass
class Config(BackendConfig):
    """What Ray Train hands to `Meeting`.

    Args:
        job: the job document.
        hidden: True to keep GPUs away from the workers.
        address: by which all reach all when they are on one machine; None for what Ray calls each node.
    """

    job: dict[str, Any] = field(default_factory=dict)
    hidden: bool = False
    address: str | None = None

    @property
    def backend_cls(self) -> type[Meeting]:
        return Meeting


class Meeting(Backend):
    """Lives in the controller's process. Each attempt has new worker processes and a new rendezvous."""

    def __init__(self) -> None:
        self._rendezvous: Rendezvous | None = None

    def on_start(self, worker_group: Any, backend_config: Config) -> None:
        """Tell every worker who it is; before any of them loads TensorFlow."""
        job = backend_config.job
        plan = restore(job["plan"])
        run = entry.patient(plan, stores.connect(job["storage"], plan.storage_options()))
        places = worker_group.execute(here, backend_config.address)
        self.on_shutdown(worker_group, backend_config)
        address = backend_config.address or ray.util.get_node_ip_address()
        self._rendezvous = rendezvous.meet(plan.spec.strategy.kind, places, address=address)
        common = entry.environment(plan, journal.latest_attempt(run) + 1)
        if hosts.OURS.reason:
            common[REASON] = json.dumps(hosts.OURS.reason)
        if backend_config.hidden:
            common["CUDA_VISIBLE_DEVICES"] = "-1"
        tell = worker_group.execute_single_async
        ray.get([tell(rank, adopt, common | mine) for rank, mine in enumerate(self._rendezvous.environments)])

    def on_shutdown(self, worker_group: Any, backend_config: Config) -> None:
        """Close the rendezvous of the attempt that ends, however it ended."""
        if self._rendezvous is not None:
            self._rendezvous.close()
            self._rendezvous = None


def here(address: str | None) -> Place:
    """Where this worker is. Ranks of one Ray node are neighbours, so the node's id is the host's name."""
    address = address or ray.util.get_node_ip_address()
    port = Port(address)
    _held.append(port)
    return Place(ray.get_runtime_context().get_node_id(), address, rendezvous.interface(address), port.number)


def adopt(environment: Environment) -> None:
    """Take these variables into this worker's environment."""
    os.environ.update(environment)
