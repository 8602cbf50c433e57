"""A Ray head of a test's own on this machine, with a token: its dashboard takes jobs."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

PROGRAM = Path(sys.executable).with_name("ray")
START_S = 180.0


@dataclass(frozen=True)
class Head:
    """A head that is up.

    Args:
        address: of its dashboard.
        gcs: for drivers.
        token: without which nobody is let in.
        home: a folder in which no token lies.
    """

    address: str
    gcs: str
    token: str
    home: str

    @property
    def environment(self) -> dict[str, str]:
        """Of processes that may use it, and know of no other."""
        return {**_bare(self.home), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}

    def lehr(
        self, *words: str, folder: Path | None = None, timeout_s: float = 300.0, **changed: str
    ) -> subprocess.CompletedProcess[str]:
        """`lehr WORDS` on this head, to its end."""
        process = self.start(*words, folder=folder, **changed)
        try:
            out, err = process.communicate(timeout=timeout_s)
        finally:
            process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def start(self, *words: str, folder: Path | None = None, **changed: str) -> subprocess.Popen[str]:
        """`lehr WORDS` on this head, not waited for."""
        environment = self.environment | {"RAY_ADDRESS": self.address} | changed
        return subprocess.Popen(
            [sys.executable, "-m", "lehr", *words], cwd=folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={name: value for name, value in environment.items() if value},
            preexec_fn=_hear,
        )  # fmt: skip


def _hear() -> None:
    """Ctrl-C is heard, whatever started the tests: shells have what runs behind them ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _bare(home: str) -> dict[str, str]:
    """This environment without what it says of Ray, and with this Python's programs first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    return kept | {"PATH": path, "HOME": home, "RAY_USAGE_STATS_ENABLED": "0"}


@contextlib.contextmanager
def head(cpus: int = 2) -> Iterator[Head]:
    """Start a head, and end all that it started."""
    folder = Path(tempfile.mkdtemp(prefix="lehr-head-", dir="/tmp"))  # Ray's sockets need short names
    home = folder / "home"
    home.mkdir()
    gcs, dashboard, clients, agent = _free(4)
    up = Head(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{gcs}", secrets.token_hex(16), str(home))
    words = ["--head", f"--port={gcs}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1",
             "--node-ip-address=127.0.0.1", f"--num-cpus={cpus}", f"--temp-dir={folder}/r",
             f"--ray-client-server-port={clients}", f"--dashboard-agent-listen-port={agent}",
             "--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=100000000",
             "--disable-usage-stats", "--block"]  # fmt: skip
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAM, "start", *words], env=up.environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait(up, process, folder / "head.log")
        yield up
    finally:
        _end(process)
        shutil.rmtree(folder, ignore_errors=True)


def _free(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in opened:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in opened]


def _wait(up: Head, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while not _listens(up.address) or up.lehr("list", folder=Path(up.home)).returncode:
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"Ray's head does not start:\n{log.read_text(errors='replace')}")
        time.sleep(1)


def _listens(address: str) -> bool:
    """Whether anybody is there to ask; asking takes a second of a processor, which the head needs itself."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", urlsplit(address).port), 5):
        return True
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the head and all below it: what Ray's daemons started is asked for before they go."""
    with contextlib.suppress(psutil.Error):
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        _, left = psutil.wait_procs(children, timeout=20)
        for each in left:
            with contextlib.suppress(psutil.Error):
                each.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    process.kill()
    process.wait()
