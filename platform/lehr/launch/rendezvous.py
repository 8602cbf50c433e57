"""How the workers of one attempt find each other.

Horovod's Gloo controller asks an HTTP server that knows who is who; tf.distribute reads the addresses of all
workers from TF_CONFIG. Both are told by environment variables, set before the worker loads TensorFlow.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil

from lehr.errors import LaunchError, letter

LOOPBACK = "127.0.0.1"
# Rank 0 draws samples and scores while the others wait at the next exchange: that is no stall.
STALL_CHECK_S = 900
# Workers of one attempt may reach the rendezvous far apart: the first import of TensorFlow on a cold host.
GLOO_TIMEOUT_S = 300

Environment = dict[str, str]


@dataclass(frozen=True)
class Place:
    """Where a worker is.

    Args:
        host: a name that workers on the same host share and others do not have.
        address: IP by which the other workers reach it.
        interface: network interface of that address.
        port: a free port there, held for this worker.
    """

    host: str
    address: str
    interface: str
    port: int


@dataclass
class Rendezvous:
    """What each worker must have in its environment to meet the others; open until `close`."""

    environments: list[Environment]
    _server: Any = field(default=None, repr=False)

    def close(self) -> None:
        """Nobody needs to be found any more."""
        server, self._server = self._server, None
        if server is not None:
            server.stop()


def meet(kind: str, places: Sequence[Place], *, address: str = LOOPBACK) -> Rendezvous:
    """Open the meeting of one attempt of a `kind` strategy.

    Args:
        kind: "single", "mirrored", "multiworker" or "horovod".
        places: of all workers, in order of rank; those of one host are neighbours.
        address: IP by which the workers reach this process.
    """
    if kind == "horovod":
        return _horovod(places, address)
    if kind == "multiworker":
        return Rendezvous([_tf_config(places, rank) for rank in range(len(places))])
    return Rendezvous([{} for _ in places])


def _tf_config(places: Sequence[Place], rank: int) -> Environment:
    workers = [f"{_bracketed(place.address)}:{place.port}" for place in places]
    task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}}
    # The port is held by a socket of ours until TensorFlow listens on it (see `Port`).
    return {"TF_CONFIG": json.dumps(task), "TF_GRPC_REUSE_PORT": "true"}


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _horovod(places: Sequence[Place], address: str) -> Rendezvous:
    from horovod.runner.common.util.hosts import HostInfo, get_host_assignments
    from horovod.runner.http.http_server import RendezvousServer

    groups = itertools.groupby(place.host for place in places)
    hosts = [HostInfo(host, len(list(group))) for host, group in groups]
    assert len({host.hostname for host in hosts}) == len(hosts), "workers of one host are not neighbours"
    slots = get_host_assignments(hosts, len(places), len(places))
    server = RendezvousServer()
    port = server.start()
    server.init(slots)
    common = {
        "HOROVOD_GLOO_RENDEZVOUS_ADDR": address,
        "HOROVOD_GLOO_RENDEZVOUS_PORT": str(port),
        "HOROVOD_GLOO_TIMEOUT_SECONDS": str(GLOO_TIMEOUT_S),
        "HOROVOD_CONTROLLER": "gloo",
        "HOROVOD_CPU_OPERATIONS": "gloo",
        "HOROVOD_STALL_CHECK_TIME_SECONDS": str(STALL_CHECK_S),
    }
    mine = [_slot(slot, place) for slot, place in zip(slots, places, strict=True)]
    return Rendezvous([common | each for each in mine], server)


def _slot(slot: Any, place: Place) -> Environment:
    names = ("rank", "size", "local_rank", "local_size", "cross_rank", "cross_size", "hostname")
    numbers = {f"HOROVOD_{name.upper()}": str(getattr(slot, name)) for name in names}
    return numbers | {"HOROVOD_GLOO_IFACE": place.interface, "NCCL_SOCKET_IFNAME": place.interface}


class Port:
    """A free port, held until this object goes: nobody else is given it, but TensorFlow may listen on it.

    The socket is bound and never listens; Linux lets a second socket of the same user bind the port when both
    say SO_REUSEPORT, which TF_GRPC_REUSE_PORT makes TensorFlow's server do.
    """

    def __init__(self, address: str) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind((address, 0))
        self.number: int = self._socket.getsockname()[1]

    def close(self) -> None:
        self._socket.close()


def interface(address: str) -> str:
    """Name of the network interface that has the IP `address`.

    Raises:
        LaunchError: this host has no such address.
    """
    wanted = ipaddress.ip_address(address)
    for name, addresses in psutil.net_if_addrs().items():
        found = [each.address for each in addresses if each.family in (socket.AF_INET, socket.AF_INET6)]
        if any(ipaddress.ip_address(each.split("%")[0]) == wanted for each in found):
            return name
    raise LaunchError(
        letter(
            "network",
            f"no interface of {socket.gethostname()} has the address {address} that Ray gave",
            do="start Ray there with --node-ip-address set to an address of that host",
        )
    )
