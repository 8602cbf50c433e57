"""A real S3 server for tests, benchmarks and people: Ceph's object gateway on loopback, its data in memory.

    python tests/ceph.py [--port 7480]      runs until standard input closes or SIGTERM

One monitor, one daemon that keeps objects in memory, the gateway; no manager. All of it lies in one
temporary folder, on free ports, and ends with the process that started it, also when that one is killed.
It needs no root.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config

PACKAGES = {
    "ceph-mon": "ceph-mon",
    "ceph-osd": "ceph-osd",
    "radosgw": "radosgw",
    "radosgw-admin": "radosgw",
    "ceph": "ceph-common",
    "monmaptool": "ceph-common",
}
START_S = 120.0  # a bound against hanging
REGION = "us-east-1"
CONFIGURATION = """
[global]
fsid = {fsid}
run dir = {folder}
mon data = {folder}/mon
osd data = {folder}/osd
rgw data = {folder}/rgw
keyring = {folder}/keyring
crash dir = {folder}
admin socket =
pid file =
log file =
mon cluster log to file = false
log to stderr = true
err to stderr = true
log to syslog = false
mon cluster log to stderr = false
clog to monitors = false
debug mon = 0/0
debug osd = 0/0
debug paxos = 0/0
debug rocksdb = 0/0
debug ms = 0/0
debug rgw = 0/0
log max recent = 1

mon host = [v2:127.0.0.1:{mon}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
# The gateway's own default, secure, is impossible without keys: it would wait for the monitor for ever.
ms mon client mode = crc
ms bind msgr1 = false
mon data avail warn = 1
mon data avail crit = 0
ms async op threads = 1

mon allow pool size one = true
mon memory target = 300000000
mon memory autotune = false
mon osd cache size = 10
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
paxos propose interval = 0.02
paxos min wait = 0.01

osd objectstore = memstore
memstore device bytes = 6442450944
osd op num shards = 2
osd op num threads per shard = 1
osd class update on start = true
osd crush update on start = true
osd scrub begin hour = 0
osd scrub min interval = 1e9
osd deep scrub interval = 1e9
osd max object name len = 2000

rgw frontends = beast endpoint=127.0.0.1:{port}
rgw thread pool size = 32
rgw num rados handles = 1
rgw cache lru size = 1000
rgw enable usage log = false
rgw enable ops log = false
rgw enable apis = s3
rgw dynamic resharding = false
rgw override bucket index max shards = 1
rgw gc max objs = 4
rgw lc max objs = 4
rgw objexp hints num shards = 4
rgw run sync thread = false
rgw bucket quota ttl = 3600
"""


@dataclass(frozen=True)
class Server:
    """A running server and who may use it.

    Attributes:
        endpoint: its URL.
        key: access key.
        secret: secret key.
        folder: where its files lie.
        processes: its daemons.
    """

    endpoint: str
    key: str
    secret: str
    folder: Path
    processes: tuple[subprocess.Popen[bytes], ...] = ()

    def options(self, endpoint: str | None = None) -> dict[str, Any]:
        """What s3fs, and so `lehr.store.connect`, takes to come here, or here through a proxy."""
        return {"key": self.key, "secret": self.secret, "endpoint_url": endpoint or self.endpoint}

    def environment(self, endpoint: str | None = None) -> dict[str, str]:
        """The same for processes, which then need no options."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> Any:
        """A client of Amazon's own library: what the server itself says, without lehr and s3fs."""
        return botocore.session.Session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
            region_name=REGION,
            config=Config(s3={"addressing_style": "path"}, proxies={}),
        )

    def bucket(self) -> str:
        """Name of a new, empty bucket."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return name


class CannotStart(Exception):
    """A daemon ended, or does not answer."""


def lacking() -> str:
    """Why there can be no server on this machine, and what to do; empty when there can."""
    packages = sorted({package for program, package in PACKAGES.items() if shutil.which(program) is None})
    if not packages:
        return ""
    return (
        f"no S3 server without Ceph's packages: apt-get install --no-install-recommends {' '.join(packages)}"
    )


@contextlib.contextmanager
def serve(folder: Path, port: int = 0) -> Iterator[Server]:
    """A server that lives as long as the block; `port` 0 takes a free one."""
    for tries_left in (2, 1, 0):  # somebody may take a free port before the daemon does
        place = Path(tempfile.mkdtemp(prefix="ceph-", dir=folder))
        processes: list[subprocess.Popen[bytes]] = []
        try:
            try:
                server = _start(place, port or _free_port(), processes)
            except CannotStart:
                if not tries_left:
                    raise
                continue
            yield server
            return
        finally:
            _end(processes)
            shutil.rmtree(place, ignore_errors=True)


def _start(folder: Path, port: int, processes: list[subprocess.Popen[bytes]]) -> Server:
    fsid, mon = str(uuid.uuid4()), _free_port()
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()
    (folder / "keyring").touch()
    (folder / "ceph.conf").write_text(CONFIGURATION.format(fsid=fsid, folder=folder, mon=mon, port=port))
    until = time.monotonic() + START_S

    def call(*command: str) -> None:
        _call(folder, until, processes, *command)

    def start(*command: str) -> None:
        processes.append(_daemon(folder, *command))

    call("monmaptool", "--create", "--addv", "a", f"[v2:127.0.0.1:{mon}]", "--fsid", fsid,
         "--set-min-mon-release", "pacific", str(folder / "monmap"))  # fmt: skip
    call("ceph-mon", "--id", "a", "--mkfs", "--monmap", str(folder / "monmap"))
    start("ceph-mon", "--id", "a", "-f")
    call("ceph", "osd", "create")
    call("ceph-osd", "--id", "0", "--mkfs")
    start("ceph-osd", "--id", "0", "-f")
    start("radosgw", "--no-mon-config", "--name", "client.rgw", "-f")
    key, secret = uuid.uuid4().hex[:20].upper(), uuid.uuid4().hex
    call("radosgw-admin", "--name", "client.rgw", "user", "create", "--uid", "tester", "--display-name", "t",
         "--access-key", key, "--secret-key", secret)  # fmt: skip
    server = Server(f"http://127.0.0.1:{port}", key, secret, folder, tuple(processes))
    _wait_for(port, until, processes, folder)
    return server


def _call(folder: Path, until: float, processes: list[subprocess.Popen[bytes]], *command: str) -> None:
    """Run a program of Ceph's to its end."""
    with open(folder / "calls.log", "ab") as log:
        process = subprocess.Popen(_bound(folder, *command), stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        while (status := process.poll()) is None:
            _check(processes, until, folder)
            time.sleep(0.02)
    finally:
        _end([process])
    if status:
        raise CannotStart(f"{' '.join(command)}: status {status}\n{_said(folder)}")


def _daemon(folder: Path, *command: str) -> subprocess.Popen[bytes]:
    with open(folder / f"{command[0]}.log", "ab") as log:
        return subprocess.Popen(_bound(folder, *command), stdout=log, stderr=log, stdin=subprocess.DEVNULL)


def _bound(folder: Path, program: str, *arguments: str) -> list[str]:
    """The command, such that its process dies with ours."""
    configuration = [] if program == "monmaptool" else ["--conf", str(folder / "ceph.conf")]
    return ["setpriv", "--pdeathsig", "KILL", program, *configuration, *arguments]


def _wait_for(port: int, until: float, processes: list[subprocess.Popen[bytes]], folder: Path) -> None:
    while True:
        _check(processes, until, folder)
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
            return
        time.sleep(0.05)


def _check(processes: list[subprocess.Popen[bytes]], until: float, folder: Path) -> None:
    for process in processes:
        if (status := process.poll()) is not None:
            raise CannotStart(f"{process.args!r} ended with status {status}\n{_said(folder)}")
    if time.monotonic() > until:
        raise CannotStart(f"not up after {START_S:.0f} s\n{_said(folder)}")


def _said(folder: Path) -> str:
    return "\n".join(
        f"{log.name}:\n{log.read_text(errors='replace')[-2000:]}" for log in folder.glob("*.log")
    )


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    """Kill them: nothing of theirs is to be kept."""
    for process in reversed(processes):
        if process.poll() is None:
            process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="of the endpoint; a free one by default")
    port = parser.parse_args().port
    if reason := lacking():
        parser.exit(1, f"{reason}\n")
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with tempfile.TemporaryDirectory() as folder, serve(Path(folder), port) as server:
        for name, value in server.environment().items():
            print(f"export {name}={value}", flush=True)
        threading.Thread(target=_await_end_of_input, args=(ended,), daemon=True).start()
        while not ended.wait(1.0):
            pass


def _await_end_of_input(ended: threading.Event) -> None:
    while sys.stdin.buffer.read(1 << 16):
        pass
    ended.set()


if __name__ == "__main__":
    main()
