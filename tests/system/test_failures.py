"""What befalls the hosts of a run over several of them, and what the run makes of it."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import jobs
from lehr import journal
from lehr.errors import StorageError
from network import Host, Network, lacking
from ray_hosts import STORE_BYTES, Cluster

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(lacking()), reason=lacking()),
]
LEHR = str(Path(sys.executable).with_name("lehr"))
WAIT_S = 240.0
WORKER = "RayTrainWorker"
# From a cut link to the line that names the host: the harness's health checks take 10 s.
NAMED_S = 60.0


class Run:
    """`lehr run` on the head, in the background."""

    def __init__(self, cluster: Cluster, folder: Path, *sets: str) -> None:
        job = folder / "job.yaml"
        job.write_text(jobs.EBM)
        self.cluster, self.store = cluster, jobs.storage(folder / "runs").below("ebm")
        words = [LEHR, "run", str(job), "--address", cluster.gcs, "--storage", str(folder / "runs")]
        sets = ("strategy={kind: horovod, workers: 2}", "train.duration={steps: 300}", *sets)
        for each in sets:
            words += ["--set", each]
        self._out = folder / "out.txt"
        with self._out.open("wb") as out:
            self.process = cluster.head.start(words, stdout=out, stderr=out)

    def wait(self, is_so: Callable[[], object], what: str, *, within_s: float = WAIT_S) -> None:
        until = time.monotonic() + within_s
        while not is_so():
            assert self.process.poll() is None, f"the run ended before {what}:\n{self.said()}"
            assert time.monotonic() < until, f"{what} did not happen:\n{self.said()}\n{self.log()}"
            time.sleep(0.2)

    def trains(self, attempt: int) -> None:
        """Wait until this attempt has made some steps."""
        self.wait(lambda: self.steps(attempt) >= 3, f"step 3 of attempt {attempt}")

    def steps(self, attempt: int) -> int:
        """How many entries of metrics an attempt has; each step makes one."""
        with contextlib.suppress(StorageError):
            return sum(e["attempt"] == attempt for e in journal.read(self.store) if e["type"] == "metrics")
        return 0

    def end(self) -> list[dict[str, Any]]:
        """Wait for a good end; the journal without its metrics."""
        assert self.process.wait(WAIT_S) == 0, f"{self.said()}\n{self.log()}"
        return [dict(entry) for entry in journal.read(self.store) if entry["type"] != "metrics"]

    def said(self) -> str:
        return self._out.read_text(errors="replace")

    def log(self) -> str:
        """What the driver's log says."""
        with contextlib.suppress(StorageError):
            return self.store.read("logs/driver.log").decode(errors="replace")
        return ""


def at_work(cluster: Cluster) -> list[Host]:
    """Hosts that have a worker of the run, whether it trains or not."""
    return [host for host in cluster.workers if any(WORKER in line for line in host.processes().values())]


def restarts(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry for entry in entries if entry.get("event") == "restarted"]


@pytest.fixture
def network(hosts: None) -> Iterator[Network]:
    with Network(4) as network:
        yield network


def keep(cluster: Cluster, host: Host, *, notice: int) -> subprocess.Popen[Any]:
    """`lehr host` on a host of the cluster."""
    words = [f"--node-ip-address={host.address}", f"--temp-dir={host.folder / 'r0'}", "--num-cpus=1",
             f"--object-store-memory={STORE_BYTES}"]  # fmt: skip
    with (host.folder / "ray.log").open("ab") as log:
        start = [LEHR, "host", "--address", cluster.gcs, "--notice", str(notice), "--", *words]
        return host.start(start, stdout=log, stderr=log)


def test_host_that_is_taken_away_leaves_a_checkpoint_and_the_run_goes_on(
    network: Network, tmp_path: Path
) -> None:
    cluster = Cluster(network)
    cluster.start_head()
    agents = {host.name: keep(cluster, host, notice=60) for host in cluster.workers}
    cluster.wait(4)
    run = Run(cluster, tmp_path, "checkpoint.every={steps: 1000}", "recovery.max_failures=0")
    run.trains(1)
    host = at_work(cluster)[0]
    signalled = time.time()
    host.signal(signal.SIGTERM, containing="lehr host")
    assert agents[host.name].wait(WAIT_S) == 0, cluster.said(host)
    assert not host.processes()
    run.trains(2)
    assert host not in at_work(cluster)
    entries = run.end()
    starts = [entry for entry in entries if entry["type"] == "start"]
    saved = next(entry for entry in entries if entry.get("event") == "checkpoint")
    assert saved["time"] > signalled
    assert saved["time"] < signalled + 60.0  # within the notice
    assert [entry["from_step"] for entry in starts] == [0, saved["step"]]
    (why,) = restarts(entries)
    assert why["cause"] == "preempted"
    assert (why["host"], why["address"]) == (host.name, host.address)
    assert "preemptions 1 of 100" in why["message"]
    assert f"host {host.name} ({host.address}) is being taken away" in run.log()


def test_host_that_fails_twice_is_left_out(network: Network, tmp_path: Path) -> None:
    spare = network.hosts.pop()
    cluster = Cluster(network)
    with cluster:
        network.hosts.append(spare)
        bad = cluster.workers[1]
        run = Run(cluster, tmp_path, "recovery={max_failures: 2, exclude_after: 2}")
        for attempt in (1, 2):
            run.trains(attempt)
            if attempt == 2:
                cluster.join(spare)
                cluster.wait(4)
            assert bad.signal(signal.SIGKILL, containing=WORKER)
        run.trains(3)
        assert {host.name for host in at_work(cluster)} == {"h2", "h4"}
        entries = run.end()
    reasons = restarts(entries)
    assert [(e["attempt"], e["cause"], e["host"], e["address"]) for e in reasons] == [
        (attempt, "failed", bad.name, bad.address) for attempt in (2, 3)
    ]
    assert re.match(rf"worker [01] on host {bad.name} ", reasons[0]["message"])
    assert reasons[1]["message"].endswith("(failures 2 of 2)")
    assert f"host {bad.name} ({bad.address}) is excluded: 2 failures there" in run.log()
