"""Hosts in network namespaces: several machines on one, for real, without a container engine.

A host has a name, an address, an interface, processes and a folder for temporary files of its own; it shares
the disk and the clock. Hosts hang on one switch, a bridge in a namespace of its own, which no interface joins
to the machine's network. Needs root on Linux, and iproute2 and util-linux. Hosts end with the process that
made them, however it ends; what a killed one left behind is cleared away by the next network.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Process 1 of a host: it waits for what nobody else waits for, and lives until it is killed, or until the
# other end of its input is closed: by the death of who made the host.
INIT = """
import os, signal, sys, threading, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
print("up", flush=True)
while True:
    try:
        os.wait()
    except ChildProcessError:
        time.sleep(0.2)
"""
NUMBERS = 1, 254  # 10.77.N.0/24, one a switch; LEHR_HOSTS=FIRST-LAST keeps to some, and off others' networks
OUTSIDE = 254  # last number of the address of the host that stands outside: clients, object stores
# Where iproute2 keeps what namespaces see, and namespaces themselves.
FILES, MOUNTS = Path("/etc/netns"), Path("/run/netns")
CLONE_NEWNET = 0x40000000


def lacking() -> str:
    """What this machine lacks to make hosts, in words; "" when nothing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces are made by root on Linux"
    programs = [name for name in ("ip", "tc", "unshare", "nsenter", "setpriv") if shutil.which(name) is None]
    if programs:
        return f"{', '.join(programs)} not found: apt-get install iproute2 util-linux"
    probe = f"lehr-probe-{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if done.returncode:
        return f"no network namespaces here: {done.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", probe], check=True)
    return ""


def numbers() -> range:
    """Those that networks of this process may have."""
    first, _, last = os.environ.get("LEHR_HOSTS", "{}-{}".format(*NUMBERS)).partition("-")
    return range(int(first), int(last) + 1)


def sweep() -> None:
    """Clear away the networks of these numbers whose makers were killed."""
    for paper in FILES.glob("lehr*/owner"):
        with contextlib.suppress(OSError, ValueError):
            pid, born, *folders = paper.read_text().split("\n")
            if int(paper.parent.name.removeprefix("lehr")) not in numbers():
                continue
            if _born(int(pid)) != born:
                for folder in folders:
                    shutil.rmtree(folder, ignore_errors=True)
                name = paper.parent.name
                _forget([*(each.name for each in MOUNTS.glob(f"{name}-*")), name])


def _forget(namespaces: Sequence[str]) -> None:
    for name in namespaces:
        for _ in itertools.repeat(None, 20):
            if not (MOUNTS / name).exists():
                break
            if subprocess.run(["ip", "netns", "del", name], capture_output=True).returncode:
                time.sleep(0.1)  # busy
        shutil.rmtree(FILES / name, ignore_errors=True)


def _born(pid: int) -> str:
    """When a process began, by the kernel's clock; "" when there is none: numbers of processes come again."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")


class Host:
    """One machine.

    Args:
        network: whose switch it is on.
        name: of the host; others find it by that name.
        number: last part of its address.
        named: whether it has a hosts file of its own; without, its name leads to no address or a wrong one.
    """

    def __init__(self, network: Network, name: str, number: int, *, named: bool = True) -> None:
        self.name, self.address = name, f"{network.prefix}.{number}"
        self.namespace = f"{network.name}-{name}"
        self._network, self._plug, self._named = network, f"to-{name}", named
        self._init: subprocess.Popen[bytes] | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="lh", dir="/tmp"))  # short: Ray's sockets lie below it

    # --- life -------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Come up, with no process running."""
        enter = ["ip", "netns", "exec", self.namespace, "unshare", "--uts", "--pid", "--mount", "--fork",
                 "--mount-proc", "--kill-child"]  # fmt: skip
        start = ["sh", "-c", 'hostname "$0"; exec "$@"', self.name, sys.executable, "-c", INIT]
        # In a session of its own: a terminal's Ctrl-C is for who made the host.
        with (self.folder / "host.log").open("wb") as log:
            self._init = subprocess.Popen(
                [*enter, *start],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self._init.stdout is not None
        if self._init.stdout.readline() != b"up\n":
            raise RuntimeError(f"host {self.name} does not come up: {(self.folder / 'host.log').read_text()}")

    @property
    def alive(self) -> bool:
        return self._init is not None and self._init.poll() is None

    def kill(self) -> None:
        """As a power cut: the others hear nothing more of it, and no process has a last word."""
        self.cut()
        self.halt()
        # With the namespace go its connections, which would else tell of their end once the link is mended.
        _ip("-n", self._network.name, "link", "del", self._plug)
        _ip("netns", "del", self.namespace)

    def halt(self) -> None:
        """End all its processes at once; its network still says so to the others."""
        if self._init is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._first(), signal.SIGKILL)  # the kernel ends the rest
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._init.wait(10)
        self._init.kill()
        self._init.communicate()
        self._init = None

    def revive(self) -> None:
        """Come back after `kill` or `halt`: the same name and address, nothing running, a link as new."""
        if not (MOUNTS / self.namespace).exists():
            self.connect()
        self.boot()
        self.mend()

    def close(self) -> None:
        self.halt()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- processes --------------------------------------------------------------------------------

    def command(self, words: Sequence[str]) -> list[str]:
        """What to run outside so that `words` run on this host. Who kills what runs outside kills both.

        Another signal reaches what runs outside alone: `signal` is for the program.
        """
        enter = ["nsenter", "--target", str(self._first()), "--all", f"--wd={os.getcwd()}", "--"]
        return [*enter, "setpriv", "--pdeathsig", "KILL", *words]

    def start(self, words: Sequence[str], *, environment: Mapping[str, str] | None = None, **options: Any
              ) -> subprocess.Popen[Any]:  # fmt: skip
        """Start a program on this host and do not wait for it; `options` are those of Popen."""
        options = {"start_new_session": True} | options
        return subprocess.Popen(self.command(words), env=self._environment(environment), **options)

    def run(
        self, words: Sequence[str], *, environment: Mapping[str, str] | None = None, timeout_s: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on this host to its end; its output is kept, its exit code not judged."""
        env = self._environment(environment)
        return subprocess.run(self.command(words), env=env, capture_output=True, text=True, timeout=timeout_s)

    def _environment(self, more: Mapping[str, str] | None) -> dict[str, str]:
        return os.environ | {"TMPDIR": str(self.folder)} | self._network.environment | dict(more or {})

    def _first(self) -> int:
        """Process 1 of this host, by its number outside."""
        if self._init is None:
            raise RuntimeError(f"host {self.name} is down")
        if self._init.poll() is not None:
            raise ProcessLookupError(f"host {self.name} has died")
        children = Path(f"/proc/{self._init.pid}/task/{self._init.pid}/children").read_text().split()
        if not children:
            raise ProcessLookupError(f"host {self.name} has died")
        return int(children[0])

    def processes(self) -> dict[int, str]:
        """Command lines of what runs on this host, by the number outside."""
        first = self._first()
        mine, found = os.readlink(f"/proc/{first}/ns/pid"), {}
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                if int(entry.name) != first and os.readlink(entry / "ns/pid") == mine:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found[int(entry.name)] = line.strip()
        return found

    def signal(self, number: int, *, containing: str = "") -> list[int]:
        """Send a signal to its processes whose command line has `containing`; whom it went to."""
        chosen = [pid for pid, line in self.processes().items() if containing in line]
        for pid in chosen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return chosen

    def listener(self, port: int = 0) -> socket.socket:
        """A socket that listens on this host, and is this process's: a door from the network to here."""
        opened: list[socket.socket] = []

        def listen() -> None:  # a thread may be on another network than its process
            with (MOUNTS / self.namespace).open() as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET) == 0:
                    opened.append(socket.create_server((self.address, port)))

        thread = threading.Thread(target=listen)
        thread.start()
        thread.join()
        if not opened:
            raise RuntimeError(f"no socket can listen on host {self.name}")
        return opened[0]

    # --- the link ---------------------------------------------------------------------------------

    def connect(self) -> None:
        """Make the host's namespace and lead a cable to the switch."""
        _ip("netns", "add", self.namespace)
        _ip("-n", self._network.name, "link", "add", self._plug, "type", "veth",
            "peer", "name", "eth0", "address", self._hardware(), "netns", self.namespace)  # fmt: skip
        _ip("-n", self._network.name, "link", "set", self._plug, "master", "switch", "up")
        _ip("-n", self.namespace, "address", "add", f"{self.address}/24", "dev", "eth0")
        _ip("-n", self.namespace, "link", "set", "eth0", "up")
        _ip("-n", self.namespace, "link", "set", "lo", "up")

    def _hardware(self) -> str:
        """Its hardware address: a host that comes back has the one that others remember."""
        return "02:00:" + ":".join(f"{int(part):02x}" for part in self.address.split("."))

    def introduce(self) -> None:
        """Write the hosts file: all names, or this host's own alone and for loopback, as many have it."""
        lines = ["127.0.0.1 localhost", "::1 localhost"]
        if self._named:
            lines += [f"{host.address} {host.name}" for host in self._network.all]
        else:
            lines[0] += f" {self.name}"
        folder = FILES / self.namespace
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hosts").write_text("\n".join(lines) + "\n")

    def cut(self) -> None:
        """Pull the cable at the switch: packets vanish, and no side is told."""
        _ip("-n", self._network.name, "link", "set", self._plug, "nomaster")

    def mend(self) -> None:
        """Plug the cable in again."""
        _ip("-n", self._network.name, "link", "set", self._plug, "master", "switch", "up")

    def slow(self, *, megabits_per_s: float, delay_ms: float = 0.0) -> None:
        """Make the link slow, both ways.

        Raises:
            RuntimeError: a delay is asked for and the kernel has no netem.
        """
        self.quicken()
        rate = f"{megabits_per_s:g}mbit"
        kinds = ["netem", "delay", f"{delay_ms:g}ms", "rate", rate] if delay_ms else \
                ["tbf", "rate", rate, "burst", "64kb", "latency", "400ms"]  # fmt: skip
        for namespace, device in self._ends():
            _run("tc", "-n", namespace, "qdisc", "add", "dev", device, "root", *kinds)

    def quicken(self) -> None:
        """Make the link as fast as it was."""
        for namespace, device in self._ends():
            subprocess.run(
                ["tc", "-n", namespace, "qdisc", "del", "dev", device, "root"], capture_output=True
            )

    def _ends(self) -> tuple[tuple[str, str], tuple[str, str]]:
        return (self.namespace, "eth0"), (self._network.name, self._plug)


class Network:
    """A switch with `count` hosts h1, h2, ... and one outside of the cluster, called `outside`.

    A context: hosts are up inside the block, and nothing of them is left after it.

    Args:
        count: hosts of the cluster.
        named: whether hosts know the names of all; else each name leads to loopback there, and nowhere else.
    """

    def __init__(self, count: int, *, named: bool = True) -> None:
        self.name, self.prefix = self._free()
        self.environment: dict[str, str] = {}  # of every program on every host
        self.hosts = [Host(self, f"h{i}", i, named=named) for i in range(1, count + 1)]
        self.outside = Host(self, "outside", OUTSIDE)
        self._sign()

    @property
    def all(self) -> list[Host]:
        return [*self.hosts, self.outside]

    def _free(self) -> tuple[str, str]:
        """Make the switch's namespace, under a number that no other network has."""
        sweep()
        for number in numbers():
            name = f"lehr{number}"
            if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode == 0:
                return name, f"10.77.{number}"
        raise RuntimeError("no free network: `ip netns` lists them")

    def _sign(self) -> None:
        """Write down whose the network is, and its folders, for `sweep`."""
        paper = FILES / self.name / "owner"
        paper.parent.mkdir(parents=True, exist_ok=True)
        words = [str(os.getpid()), _born(os.getpid()), *(str(host.folder) for host in self.all)]
        paper.write_text("\n".join(words))

    def __enter__(self) -> Network:
        try:
            _ip("-n", self.name, "link", "add", "switch", "type", "bridge")
            _ip("-n", self.name, "link", "set", "switch", "up")
            for host in self.all:
                host.connect()
                host.introduce()
                host.boot()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes of all hosts and remove the network."""
        for host in self.all:
            host.close()
        _forget([*(host.namespace for host in self.all), self.name])
