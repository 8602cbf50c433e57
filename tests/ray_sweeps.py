"""Sweeps on Ray, for tests: a cluster that was there before, and `lehr sweep` in processes of its own."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

import jobs
from lehr import journal, spec
from lehr.store import Store
from lehr.sweep.records import FINAL, History, Trial

PATIENCE_S = 300.0
SEARCH = """
search:
  space:
    train.optimizer.learning_rate: {log: [1.0e-3, 1.0e-1]}
  metric: validation/loss
  trials: 4
  concurrent: 2
  grace: {steps: 4}
"""
SMALL = ("train.duration={steps: 8}", "validation.every={steps: 4}", "checkpoint.every={steps: 4}")
LENET = spec.text(spec.parse(jobs.LENET + SEARCH, sets=SMALL))


@dataclass(frozen=True)
class Cluster:
    """A cluster that asks for a token.

    Args:
        address: for drivers.
        environment: of processes that may use it.
        pid: of its head.
    """

    address: str
    environment: dict[str, str]
    pid: int

    def processes(self, containing: str) -> list[psutil.Process]:
        """What runs on it whose name has this in it."""
        found = []
        for process in psutil.Process(self.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if containing in " ".join(process.cmdline()):
                    found.append(process)
        return found


@contextlib.contextmanager
def cluster(cpus: int = 2) -> Iterator[Cluster]:
    """Start a head as `ray start` makes it, and end all that it started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="lehr-test-", dir="/tmp"))  # Ray's sockets need short names
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "TUNE_"))}
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)}
    environment = kept | token | {"RAY_USAGE_STATS_ENABLED": "0"}
    words = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--disable-usage-stats",
             f"--port={port}", f"--num-cpus={cpus}", "--node-ip-address=127.0.0.1",
             "--include-dashboard=false", f"--temp-dir={folder}",
             f"--object-store-memory={100 << 20}"]  # fmt: skip
    log = folder / "head.log"
    with log.open("wb") as out:
        head = subprocess.Popen(words, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + PATIENCE_S
        while b"Ray runtime started" not in log.read_bytes():
            assert head.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        yield Cluster(f"127.0.0.1:{port}", environment, head.pid)
    finally:
        below = psutil.Process(head.pid).children(recursive=True) if head.poll() is None else []
        for process in [*below, head]:
            with contextlib.suppress(psutil.Error):
                process.kill()
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Site:
    """A job file, a folder of runs, and maybe a cluster.

    Args:
        folder: of both.
        on: the cluster; None: each sweep starts one of its own.
        pids: of all drivers that were started.
    """

    folder: Path
    on: Cluster | None = None
    pids: list[int] = field(default_factory=list)

    @property
    def storage(self) -> Path:
        return self.folder / "runs"

    def words(self, run: str, text: str, *sets: str) -> list[str]:
        """The command of a sweep."""
        file = self.folder / f"{run}.yaml"
        file.write_text(text)
        given = [word for each in sets for word in ("--set", each)]
        place = ["--address", self.on.address] if self.on else []
        return ["sweep", str(file), "--run", run, "--storage", str(self.storage), *place, *given]

    def start(self, *words: str, **changed: str) -> subprocess.Popen[str]:
        """`lehr WORDS`, not waited for; what it says is in a file, `said`."""
        environment = (self.on.environment if self.on else dict(os.environ)) | changed
        with (self.folder / "said.txt").open("a") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "lehr", *words], env=environment, text=True,
                stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.pids.append(process.pid)
        return process

    def lehr(self, *words: str, **changed: str) -> None:
        """`lehr WORDS`, to its good end."""
        process = self.start(*words, **changed)
        try:
            code = process.wait(PATIENCE_S)
        finally:
            process.kill()
        assert code == 0, self.told(words)

    def told(self, about: object = "") -> str:
        logs = "\n".join(log.read_text()[-3000:] for log in self.storage.glob("*/logs/driver.log"))
        return f"{about}\n{(self.folder / 'said.txt').read_text()[-3000:]}\n{logs}"

    def sweep(self, run: str) -> Store:
        return jobs.storage(self.storage).below(run)

    def trial(self, sweep: str, number: int) -> Store:
        """The run of a trial's first segment."""
        return self.sweep(sweep).below(f"trials/{sweep}-{number:04d}")


def events(sweep: Store) -> list[journal.Entry]:
    """What the sweep's journal says, of all launches."""
    return [entry for entries in journal.lives(sweep) for entry in entries]


def history(sweep: Store) -> History:
    return History.read(events(sweep))


def once(sweep: Store, trials: int) -> dict[int, Trial]:
    """The trials of a sweep, of which each wanted one ended for good exactly once."""
    ends = [entry for entry in events(sweep) if entry.get("event") == "ended" and entry["outcome"] in FINAL]
    assert sorted(entry["trial"] for entry in ends) == list(range(1, trials + 1))
    found = history(sweep).trials
    assert sorted(found) == list(range(1, trials + 1))
    for number, trial in found.items():
        assert len(trial.segments) == 1, number
        begun = [e for e in events(sweep) if (e.get("event"), e.get("trial")) == ("trial", number)]
        assert all(entry["parameters"] == trial.parameters for entry in begun), begun
    return found


def until(happened: Callable[[], Any], process: subprocess.Popen[str], told: Callable[[], str]) -> Any:
    """Wait for something while a process lives."""
    end = time.monotonic() + PATIENCE_S
    while not (found := happened()):
        assert process.poll() is None, told()
        assert time.monotonic() < end, told()
        time.sleep(0.1)
    return found
