"""A cluster of namespaced hosts with a real S3 server beside it, and runs that are submitted to it."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import ceph
import jobs
from lehr import journal, status
from lehr import store as stores
from lehr.checkpoint import manifest
from lehr.launch import admission, local
from lehr.store import Store
from network import Host, Network
from ray_hosts import Cluster, program

PATIENCE_S = 300.0
RESTART_S = 120.0  # between the end of an attempt and a sign of the next
LEHR = program("lehr")
# Long enough that something can happen in its middle, on a fast machine as well.
STEPS = 60
SETS = (
    "train.global_batch=32",
    f"train.duration={{steps: {STEPS}}}",
    "sampler.steps=20",
    "sampler.buffer.size=320",
    "checkpoint.every={steps: 5}",
    "tracking.every={steps: 1}",
)


@contextlib.contextmanager
def forwarded(host: Host, endpoint: str) -> Iterator[str]:
    """A URL on `host` that leads to a server on this machine, which the hosts do not see."""
    there = urlsplit(endpoint)
    assert there.hostname
    assert there.port
    upstream = (there.hostname, there.port)
    with host.listener() as door:
        threading.Thread(target=_accept, args=(door, upstream), daemon=True).start()
        yield f"http://{host.address}:{door.getsockname()[1]}"
        door.shutdown(socket.SHUT_RDWR)


def _accept(door: socket.socket, upstream: tuple[str, int]) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = door.accept()
            threading.Thread(target=_join, args=(client, upstream), daemon=True).start()


def _join(client: socket.socket, upstream: tuple[str, int]) -> None:
    with contextlib.suppress(OSError), client, socket.create_connection(upstream) as server:
        back = threading.Thread(target=_pump, args=(server, client), daemon=True)
        back.start()
        _pump(client, server)
        back.join()


def _pump(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(1 << 16):
            other.sendall(data)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_WR)


@dataclass(frozen=True)
class Site:
    """A cluster, and the folder of its runs in S3.

    Args:
        cluster: which is up.
        server: of S3, as this process reaches it.
        url: of the folder of runs.
        file: the job file.
    """

    cluster: Cluster
    server: ceph.Server
    url: str
    file: Path

    @property
    def network(self) -> Network:
        return self.cluster.network

    def run(self, run_id: str) -> Store:
        """The folder of a run, as this process reads it."""
        return stores.connect(self.url, self.server.options()).below(run_id)

    def words(self, run_id: str, *sets: str) -> list[str]:
        """The command that submits the job."""
        given = (word for text in (*SETS, *sets) for word in ("--set", text))
        place = ["--address", self.cluster.address, "--storage", self.url]
        return [LEHR, "submit", str(self.file), "--run", run_id, *place, *given]

    def submit(self, run_id: str, *sets: str) -> Store:
        """Submit the job from outside of the cluster; the run's folder."""
        words = self.words(run_id, *sets)
        done = self.network.outside.run(words)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout == f"{run_id}\n"
        return self.run(run_id)

    def until(self, what: str, happened: Callable[[], object], run: Store) -> float:
        """Wait for something while the run is not over; when it was, in seconds since 1970."""
        end = time.monotonic() + PATIENCE_S
        while not happened():
            now = status.read(run)
            # A worker that fails because another is gone says so: another attempt may follow.
            if now is not None and now.status not in (*status.ALIVE, what):
                assert now.status == "failed", f"{now}\n{told(run)}"
                assert time.time() - now.time < RESTART_S, f"{now}\n{told(run)}"
            assert time.monotonic() < end, f"no {what} within {PATIENCE_S:.0f} s: {now}\n{told(run)}"
            time.sleep(0.2)
        return time.time()

    def until_step(self, step: int, run: Store, *, attempt: int = 1) -> None:
        """Wait for a checkpoint of this step or a later one, by this attempt or a later one."""
        self.until(f"checkpoint at step {step}", lambda: saved(run, attempt) >= step, run)

    def until_completed(self, run: Store) -> None:
        self.until("completed", lambda: state(run) == "completed", run)

    def back(self, host: Host) -> None:
        """A host that was killed or cut off for good comes back."""
        self.cluster.clear(host)
        self.cluster.miss(host)
        if not host.alive:
            host.revive()
        host.mend()
        self.cluster.join(host)
        self.cluster.wait(len(self.network.hosts))


@contextlib.contextmanager
def site(
    server: ceph.Server,
    folder: Path,
    *,
    named: bool = True,
    agent: bool = False,
    health: dict[str, str] | None = None,
) -> Iterator[Site]:
    """Three hosts: a head that takes no workers, and two of one CPU each."""
    file = folder / "job.yaml"
    file.write_text(jobs.EBM)
    with Network(3, named=named) as network, forwarded(network.outside, server.endpoint) as endpoint:
        environment = server.environment(endpoint) | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        with Cluster(network, environment=environment, agent=agent, health=health) as cluster:
            yield Site(cluster, server, f"s3://{server.bucket()}/runs", file)


def undisturbed(folder: Path, kind: str, workers: int) -> Store:
    """The same job without a cluster, on this machine alone."""
    strategy = f"strategy={{kind: {kind}, workers: {workers}}}"
    plan = jobs.plan(jobs.EBM, *SETS, strategy, run_id=f"{kind}-{workers}")
    base = jobs.storage(folder)
    admission.prepare(plan, base.below(plan.run_id))
    assert local.spawn(plan, base).status == "completed"
    return base.below(plan.run_id)


def state(run: Store) -> str:
    found = status.read(run)
    return found.status if found else ""


def saved(run: Store, attempt: int = 1) -> int:
    """The step of the newest checkpoint that this attempt or a later one made; 0 when there is none."""
    places = (manifest.address(name) for name in manifest.committed_names(run.list(manifest.ROOT)))
    return max((place[0] for place in places if place and place[1] >= attempt), default=0)


def starts(run: Store) -> list[dict[str, object]]:
    """The start entry of each attempt."""
    entries = [journal.read_attempt(run, attempt) for attempt in journal.attempts(run)]
    return [next(entry for entry in each if entry["type"] == "start") for each in entries if each]


def told(run: Store) -> str:
    """What the run's driver and the ends of its workers' logs say."""
    names = sorted(run.list("logs"))
    parts = [run.read(name).decode(errors="replace")[-3000:] for name in names]
    attempts = json.dumps(starts(run), default=str)[:2000]
    return "\n".join(f"--- {name}\n{text}" for name, text in zip(names, parts, strict=True)) + attempts


def driver_said(run: Store) -> str:
    """What the run's driver wrote."""
    return "".join(run.read(name).decode() for name in sorted(run.list("logs")) if "driver" in name)
