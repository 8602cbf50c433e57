"""How long a user of a cluster waits: from `lehr submit` to the first step, against `ray job submit` by hand.

    python tests/benchmarks/submit.py [--pairs 3] [--ship]

One Ray head on this machine, with a token, takes both: `lehr submit` of `jobs/ebm-digits.yaml`, and
`ray job submit` of `minimal.py`, a hand-written Ray Train script with the same model, data, batch and chain.
They take turns. A time ends when the first step is done, by the clock of the one who did it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from lehr import journal, status
from lehr import store as stores

ROOT = Path(__file__).parents[2]
JOB = str(ROOT / "jobs" / "ebm-digits.yaml")
MINIMAL = Path(__file__).with_name("minimal.py")
BIN = Path(sys.executable).parent
CPUS = 3
START_S, RUN_S = 120.0, 300.0
SETTLE_S = 5.0  # for a job's processes to end before the next one begins


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def head() -> Iterator[str]:
    """A Ray head with a token, in the environment of this process; its address."""
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16),
                   "RAY_USAGE_STATS_ENABLED": "0", "TF_CPP_MIN_LOG_LEVEL": "3",
                   "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}  # fmt: skip
    os.environ.pop("RAY_ADDRESS", None)
    folder = Path(tempfile.mkdtemp(prefix="rs", dir="/tmp"))
    names = ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port")
    ports = {name: free_port() for name in names}
    words = ["--head", "--block", f"--num-cpus={CPUS}", f"--temp-dir={folder}", "--disable-usage-stats",
             "--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1",
             f"--object-store-memory={100 << 20}", *[f"--{n}={p}" for n, p in ports.items()]]  # fmt: skip
    with (folder / "start.log").open("wb") as log:
        process = subprocess.Popen([BIN / "ray", "start", *words], stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{ports['dashboard-port']}"
        await_head(address, process, folder)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def await_head(address: str, process: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait until jobs are accepted."""
    until = time.monotonic() + START_S
    call = urllib.request.Request(
        f"{address}/api/version", headers={"Authorization": f"Bearer {os.environ['RAY_AUTH_TOKEN']}"}
    )
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(call, timeout=5):
            return
        time.sleep(0.2)
    raise SystemExit(f"Ray's head does not start:\n{(folder / 'start.log').read_text(errors='replace')}")


def lehr_s(address: str, *words: str) -> tuple[float, float]:
    """Seconds from `lehr submit` to its answer, and to the end of the first step."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.time()
        command = [str(BIN / "lehr"), "submit", JOB, "--address", address, "--storage", folder,
                   "--set", "train.duration={steps: 1}", "--set", "samples=null", *words]  # fmt: skip
        said = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S)
        answered_s = time.time() - began
        if said.returncode:
            raise SystemExit(f"lehr submit failed:\n{said.stdout}{said.stderr}")
        run = stores.connect(folder).below("ebm-digits")
        while (told := status.read(run)) is None or told.status in status.ALIVE:
            if time.time() - began > RUN_S:
                raise SystemExit(f"no end of the run after {RUN_S:g} s: {told}")
            time.sleep(0.5)
        entries = journal.read(run)
    time.sleep(SETTLE_S)
    done = [e["time"] for e in entries if e["type"] == "metrics" and "time/step_s" in e["values"]]
    if not done:
        raise SystemExit(f"the run made no step: {told}")
    return answered_s, float(done[0]) - began


def minimal_s(address: str) -> float:
    """Seconds from `ray job submit` of the hand-written script to the end of its first step."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(MINIMAL, folder)
        began = time.time()
        command = [str(BIN / "ray"), "job", "submit", "--address", address, "--working-dir", folder]
        said = subprocess.run([*command, "--", sys.executable, MINIMAL.name], capture_output=True, text=True,
                              timeout=RUN_S)  # fmt: skip
    time.sleep(SETTLE_S)
    found = re.findall(r"^(\d{10}\.\d+)$", said.stdout, re.MULTILINE)
    if not found:
        raise SystemExit(f"ray job submit failed:\n{said.stdout}{said.stderr}")
    return float(found[-1]) - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--ship", action="store_true", help="send the package, too")
    asked = parser.parse_args()
    words = ["--ship"] if asked.ship else []
    found = []
    with head() as address:
        minimal_s(address)  # the first job on a head pays for what Ray starts once
        for pair in range(1, asked.pairs + 1):
            (answered_s, ours), theirs = lehr_s(address, *words), minimal_s(address)
            found.append((ours, theirs))
            told = f"lehr {ours:.1f} s (answered after {answered_s:.1f} s), by hand {theirs:.1f} s"
            print(f"pair {pair}: {told}, load {os.getloadavg()[0]:.1f}", flush=True)
    ratios = [ours / theirs for ours, theirs in found]
    ours, theirs = (statistics.median(side) for side in zip(*found, strict=True))
    print(
        f"| time from `lehr submit` to the first step | `ray job submit` of a minimal hand-written script to "
        f"the same head | {statistics.median(ratios):.2f}x of its time ({min(ratios):.2f} to "
        f"{max(ratios):.2f}), {ours:.1f} s against {theirs:.1f} s |"
    )


if __name__ == "__main__":
    main()
