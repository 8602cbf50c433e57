"""A Ray cluster over the hosts of a `network.Network`: a head on the first host, a worker on each other.

    python cluster/hosts/ray_hosts.py 3

makes three hosts, prints how to reach them, and takes all down again on Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from network import Host, Network, lacking

PORT, DASHBOARD, CLIENTS = 6379, 8265, 10001
START_S = 120.0
STORE_BYTES = 100 << 20
# The head asks every host for a sign of life; silence for 5 x (1 s + 1 s) at most is a dead host. Ray's own
# 5 x (3 s + 10 s) suits thousands of hosts.
HEALTH = {
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "5",
}


class Cluster:
    """Ray on the hosts of a network that is up. A context: Ray's processes end with their hosts.

    Args:
        network: its hosts.
        cpus: that each host says it has; one number for all, or one a host.
        head_cpus: that the head says it has: 0 keeps workers away from it.
        health: environment of the head that says when a silent host is dead.
        environment: more environment of all Ray processes, and of what runs in jobs.
        agent: whether worker hosts run `lehr host`, which leaves properly on SIGTERM, or else `ray start`.
        notice_s: how long such a host lives on after SIGTERM.
    """

    def __init__(
        self,
        network: Network,
        *,
        cpus: int = 1,
        head_cpus: int = 0,
        health: dict[str, str] | None = None,
        environment: dict[str, str] | None = None,
        agent: bool = False,
        notice_s: float = 30.0,
    ) -> None:
        self.network, self._cpus, self._head_cpus = network, cpus, head_cpus
        self._agent, self._notice_s = agent, notice_s
        self.token = secrets.token_hex(16)
        self._health = HEALTH if health is None else health
        network.environment |= {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # jobs call `python`
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "RAY_USAGE_STATS_ENABLED": "0",
            **(environment or {}),
        }
        self.processes: dict[str, subprocess.Popen[Any]] = {}

    @property
    def head(self) -> Host:
        return self.network.hosts[0]

    @property
    def workers(self) -> list[Host]:
        return self.network.hosts[1:]

    @property
    def gcs(self) -> str:
        """Address for drivers on a host of the cluster."""
        return f"{self.head.address}:{PORT}"

    @property
    def address(self) -> str:
        """Address for `lehr submit` from anywhere on the network."""
        return f"http://{self.head.address}:{DASHBOARD}"

    def __enter__(self) -> Cluster:
        self.start_head()
        for host in self.workers:
            self.join(host)
        self.wait(len(self.network.hosts))
        return self

    def __exit__(self, *error: object) -> None:
        for host in reversed(self.network.hosts):
            self.clear(host)

    def clear(self, host: Host) -> None:
        """End Ray and all else on a host at once; the host itself stays up."""
        with contextlib.suppress(ProcessLookupError):
            if host.alive:
                host.signal(signal.SIGKILL)
        if process := self.processes.pop(host.name, None):
            process.kill()  # its host may be gone, with all that was on it
            process.wait()

    def start_head(self, *, environment: dict[str, str] | None = None) -> None:
        """Start the head's Ray and wait until it answers."""
        words = ["--head", f"--port={PORT}", "--dashboard-host=0.0.0.0", f"--dashboard-port={DASHBOARD}",
                 f"--num-cpus={self._head_cpus}", f"--ray-client-server-port={CLIENTS}"]  # fmt: skip
        self._start(self.head, [program("ray"), "start", *words], self._health | (environment or {}))
        for port in (PORT, DASHBOARD):
            self._listening(port)

    def join(self, host: Host, *, cpus: int | None = None) -> None:
        """Start Ray on a host, as a worker of the head; `wait` tells when it is there."""
        ray = [program("ray"), "start", f"--address={self.gcs}"]
        lehr = [program("lehr"), "host", f"--address={self.gcs}", f"--notice={self._notice_s}", "--"]
        words = lehr if self._agent else ray
        self._start(host, [*words, f"--num-cpus={self._cpus if cpus is None else cpus}"], {})

    def _start(self, host: Host, words: list[str], environment: dict[str, str]) -> None:
        folder = host.folder / f"r{len(list(host.folder.glob('r*')))}"  # a revived host has a new one
        common = [f"--node-ip-address={host.address}", f"--temp-dir={folder}", "--disable-usage-stats",
                  f"--object-store-memory={STORE_BYTES}", "--block"]  # fmt: skip
        with (host.folder / "ray.log").open("ab") as log:
            self.processes[host.name] = host.start(
                [*words, *common], environment=environment, stdout=log, stderr=log
            )

    def _listening(self, port: int) -> None:
        knock = f"import socket; socket.create_connection(({self.head.address!r}, {port}), 2).close()"
        until = time.monotonic() + START_S
        while self.head.run([sys.executable, "-c", knock]).returncode:
            if time.monotonic() > until or self.processes[self.head.name].poll() is not None:
                raise RuntimeError(f"Ray's head does not start:\n{self.said(self.head)}")
            time.sleep(0.2)

    def said(self, host: Host) -> str:
        """What `ray start`, or `lehr host`, said there."""
        return (host.folder / "ray.log").read_text(errors="replace")

    def alive(self) -> dict[str, dict[str, float]]:
        """Resources of the hosts that Ray counts as alive, by address."""
        program = (
            "import json, sys\n"
            "from ray._raylet import GcsClient\n"
            "from ray.core.generated import gcs_pb2\n"
            f"found = GcsClient(address={self.gcs!r}).get_all_node_info(timeout=20)\n"
            "alive = {n.node_manager_address: dict(n.resources_total) for n in found.values()\n"
            "         if n.state == gcs_pb2.GcsNodeInfo.ALIVE}\n"
            "print('ALIVE' + json.dumps(alive))\n"
        )
        done = self.head.run([sys.executable, "-c", program])
        for line in done.stdout.splitlines():
            if line.startswith("ALIVE"):
                return dict(json.loads(line.removeprefix("ALIVE")))
        return {}

    def wait(self, count: int, *, timeout_s: float = START_S) -> None:
        """Wait until Ray counts so many hosts as alive."""
        self._until(lambda alive: len(alive) == count, f"{count} hosts should be alive", timeout_s)

    def miss(self, host: Host, *, timeout_s: float = START_S) -> None:
        """Wait until Ray no longer counts a host as alive: one that joined before would be there twice."""
        self._until(lambda alive: host.address not in alive, f"{host.name} should be dead", timeout_s)

    def _until(self, wanted: Callable[[Collection[str]], bool], words: str, timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        while not wanted(found := self.alive()):
            if time.monotonic() > until:
                raise RuntimeError(f"{words}, and these are alive: {sorted(found)}")
            time.sleep(0.5)


def program(name: str) -> str:
    """A command of this Python, `ray` or `lehr`."""
    return str(Path(sys.executable).with_name(name))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("hosts", type=int, help="how many, the head among them")
    parser.add_argument("--cpus", type=int, default=1, help="that each worker host says it has (default 1)")
    asked = parser.parse_args()
    if reason := lacking():
        sys.exit(f"hosts: {reason}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Network(asked.hosts) as network, Cluster(network, cpus=asked.cpus) as cluster:
        inside = " ".join(network.outside.command([]))
        print(f"{asked.hosts} hosts are up: " + ", ".join(f"{h.name} {h.address}" for h in network.all))
        # The programs of this Python first: whoever starts this need not have activated its environment.
        path = shlex.quote(str(Path(sys.executable).parent))
        ours = f"RAY_AUTH_MODE=token RAY_AUTH_TOKEN={cluster.token} RAY_ADDRESS={cluster.address}"
        print(f"export PATH={path}:$PATH {ours}")
        print(f"a shell outside of the cluster: {inside} bash\nCtrl-C takes all down", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            pass
        finally:  # taking down is not to be interrupted
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    main()
