"""Hosts in network namespaces are what they say: cut off, slow, dead, back, and gone in the end."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import network as networks
from network import Host, Network

pytestmark = [pytest.mark.hosts, pytest.mark.system]
HOSTS = Path(networks.__file__).parent
PATIENCE_S = 60.0
PORT = 5000
# Answers what comes, byte for byte.
ECHO = f"""
import socket, threading
def serve(client):
    while data := client.recv(1 << 16):
        client.sendall(data)
listener = socket.create_server(("", {PORT}))
print("up", flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""
# Says something each 0.1 s over one connection, and writes down what comes back, or what goes wrong.
TALK = f"""
import socket, sys, time
one = socket.create_connection((sys.argv[1], {PORT}), timeout=120)
for i in range(10**6):
    one.sendall(b"x")
    print("back" if one.recv(1) else "ended", flush=True)
    time.sleep(0.1)
"""
KNOCK = f"""
import socket, sys
try:
    socket.create_connection((sys.argv[1], {PORT}), timeout=float(sys.argv[2])).close()
    print("open")
except OSError as error:
    print(type(error).__name__)
"""
SEND = f"""
import socket, sys, time
one = socket.create_connection((sys.argv[1], {PORT}), timeout=120)
began, left = time.monotonic(), int(sys.argv[2])
one.sendall(bytes(left))
while left > 0:
    left -= len(one.recv(1 << 16))
print(time.monotonic() - began)
"""
HOLD = """
import sys
from network import Network
with Network(2) as network:
    network.hosts[0].start(["sleep", "1000"])
    print(network.name, *(host.folder for host in network.all), flush=True)
    HOLD
"""


def until(what: str, happened: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < end, f"no {what} within {PATIENCE_S:.0f} s"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def two(hosts: None) -> Iterator[Network]:
    with Network(2) as network:
        yield network


@pytest.fixture
def pair(two: Network) -> Iterator[tuple[Host, Host]]:
    """A host, and another one that echoes."""
    one, other = two.hosts
    if not other.alive:
        other.revive()
    echo(other)
    yield one, other
    for host in two.hosts:
        if host.alive:
            host.signal(signal.SIGKILL)


def echo(host: Host) -> None:
    server = host.start([sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert server.stdout.readline() == "up\n"


def knock(host: Host, address: str, timeout_s: float = 60) -> str:
    return host.run([sys.executable, "-c", KNOCK, address, str(timeout_s)]).stdout.strip()


def talk(host: Host, other: Host, log: Path) -> subprocess.Popen[str]:
    with log.open("w") as out:
        words = [sys.executable, "-c", TALK, other.address]
        talker = host.start(words, stdout=out, stderr=subprocess.STDOUT, text=True)
    until("answer", lambda: "back" in log.read_text())
    return talker


def test_hosts_have_names_addresses_and_processes_of_their_own(two: Network) -> None:
    one, other = two.hosts
    assert [host.run(["hostname"]).stdout.strip() for host in two.all] == ["h1", "h2", "outside"]
    assert one.run(["getent", "hosts", "h2"]).stdout.split() == [other.address, "h2"]
    assert two.outside.run(["getent", "hosts", "h1"]).stdout.split() == [one.address, "h1"]
    one.start(["sleep", "1000"])
    until("process", lambda: "sleep 1000" in one.processes().values())
    assert other.processes() == {}
    assert one.signal(signal.SIGKILL, containing="sleep")
    until("end of it", lambda: one.processes() == {})


def test_without_a_hosts_file_a_name_leads_to_loopback_there_and_nowhere_else(hosts: None) -> None:
    with Network(2, named=False) as network:
        one = network.hosts[0]
        assert one.run(["getent", "hosts", "h1"]).stdout.split()[0] == "127.0.0.1"
        assert one.run(["getent", "hosts", "h2"]).returncode != 0


def test_hosts_are_no_part_of_this_machines_network(two: Network) -> None:
    said = subprocess.run(["ip", "-o", "address"], capture_output=True, text=True, check=True).stdout
    assert "inet 127.0.0.1" in said
    assert two.prefix not in said


def test_a_door_leads_from_the_network_to_this_process(two: Network) -> None:
    with two.outside.listener(PORT) as door:
        assert door.getsockname() == (two.outside.address, PORT)
        assert knock(two.hosts[0], two.outside.address) == "open"


def test_a_cut_link_tells_nobody_and_mended_goes_on(pair: tuple[Host, Host], tmp_path: Path) -> None:
    one, other = pair
    talker = talk(one, other, tmp_path / "log")
    other.cut()
    said = (tmp_path / "log").read_text()
    assert knock(one, other.address, timeout_s=3) == "TimeoutError", "nobody refuses: packets vanish"
    assert talker.poll() is None
    later = (tmp_path / "log").read_text()
    assert len(later) <= len(said) + len("back\n"), "what was on its way may arrive"
    other.mend()
    until("answer after the cut", lambda: len((tmp_path / "log").read_text()) > len(later) + 20)
    assert talker.poll() is None
    talker.kill()


def test_a_killed_host_has_no_last_word(pair: tuple[Host, Host], tmp_path: Path) -> None:
    one, other = pair
    talker = talk(one, other, tmp_path / "log")
    pids = list(other.processes())
    other.kill()
    assert not other.alive
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert knock(one, other.address, timeout_s=3) in ("TimeoutError", "OSError"), "not refused"
    assert talker.poll() is None, "it hears nothing, and so waits"
    other.revive()
    assert other.processes() == {}
    assert other.run(["hostname"]).stdout.strip() == "h2"
    assert knock(one, other.address) == "ConnectionRefusedError", "the host is there, the program is not"
    until("word from the host that is new", lambda: talker.poll() is not None)
    assert "ConnectionResetError" in (tmp_path / "log").read_text(), "it knows nothing of old connections"


def test_a_halted_host_ends_its_connections(pair: tuple[Host, Host], tmp_path: Path) -> None:
    one, other = pair
    talker = talk(one, other, tmp_path / "log")
    other.halt()
    until("word of the end", lambda: talker.poll() is not None)
    assert re.search("ended|ConnectionResetError|BrokenPipeError", (tmp_path / "log").read_text())


def test_a_slow_link_is_as_slow_as_asked(pair: tuple[Host, Host]) -> None:
    one, other = pair
    size = 1 << 20
    other.slow(megabits_per_s=8)  # 1 MB/s, each way
    took_s = float(one.run([sys.executable, "-c", SEND, other.address, str(size)]).stdout)
    other.quicken()
    # Both ways at once; at most 64 KiB of each may pass in a burst. A busy machine is slower, never faster.
    assert 0.9 * size / 1e6 <= took_s
    fast_s = float(one.run([sys.executable, "-c", SEND, other.address, str(size)]).stdout)
    assert fast_s < took_s


def test_who_kills_a_program_from_outside_kills_it_there(two: Network) -> None:
    host = two.hosts[0]
    with pytest.raises(subprocess.TimeoutExpired):
        host.run(["sleep", "1000"], timeout_s=1)
    until("end of it", lambda: "sleep 1000" not in host.processes().values())


def left(name: str, folders: list[str]) -> list[str]:
    """What is still there of a network."""
    places = [*networks.MOUNTS.glob(f"{name}*"), *networks.FILES.glob(f"{name}*"), *map(Path, folders)]
    return [str(place) for place in places if place.exists() and _is_of(name, place)]


def _is_of(name: str, place: Path) -> bool:
    return place.parent == Path("/tmp") or place.name == name or place.name.startswith(f"{name}-")


def test_nothing_is_left_of_two_networks_at_once(hosts: None) -> None:
    with Network(1) as one, Network(1) as other:
        assert one.name != other.name
        assert one.prefix != other.prefix
        init = [host._first() for network in (one, other) for host in network.all]
        assert knock(one.hosts[0], other.hosts[0].address, timeout_s=2) != "open"
        one.hosts[0].kill()
    for network in (one, other):
        assert left(network.name, [str(host.folder) for host in network.all]) == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in init)


def test_nothing_is_left_after_an_exception(hosts: None) -> None:
    network = Network(1)

    def fail() -> None:
        with network:
            network.hosts[0].start(["sleep", "1000"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert left(network.name, [str(host.folder) for host in network.all]) == []


def test_what_a_killed_process_leaves_the_next_network_clears_away(hosts: None) -> None:
    program = HOLD.replace("HOLD", "sys.stdin.read()")
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(HOSTS)},
    ) as holder:  # fmt: skip
        assert holder.stdout is not None
        name, *folders = holder.stdout.readline().split()
        inside = processes_below(name)
        assert inside
        holder.kill()
    until("end of the hosts", lambda: not any(Path(f"/proc/{pid}").exists() for pid in inside))
    assert left(name, folders)
    networks.sweep()
    assert left(name, folders) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_makes_a_cluster_and_leaves_nothing(hosts: None, number: int) -> None:
    with subprocess.Popen(
        [sys.executable, str(HOSTS / "ray_hosts.py"), "2"], stdout=subprocess.PIPE, text=True,
        # Where tests run in the background of a shell, SIGINT is ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as command, contextlib.ExitStack() as at_end:  # fmt: skip
        at_end.callback(command.kill)  # a failed assertion must not wait for one that waits itself
        assert command.stdout is not None
        first, variables, shell = (command.stdout.readline() for _ in range(3))
        found = re.fullmatch(r"2 hosts are up: h1 10\.77\.(\d+)\.1, h2 \S+, outside \S+\n", first)
        assert found, first
        name = f"lehr{found[1]}"
        folders = (networks.FILES / name / "owner").read_text().split("\n")[2:]
        inside = processes_below(name)
        assert inside
        # What is printed is what a user types.
        seen = f"{variables.strip()}\n{shell.partition(': ')[2].removesuffix('bash' + chr(10))} ray job list"
        bare = os.environ | {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        said = subprocess.run(
            ["bash", "-c", seen], capture_output=True, text=True, timeout=PATIENCE_S, env=bare
        )
        assert said.returncode == 0, said.stderr
        command.send_signal(number)
        assert command.wait(PATIENCE_S) == 0
    assert left(name, folders) == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in inside)


def processes_below(name: str) -> list[int]:
    """Who is in the network namespaces of that network."""
    found: list[int] = []
    for mount in networks.MOUNTS.glob(f"{name}-*"):
        said = subprocess.run(["ip", "netns", "pids", mount.name], capture_output=True, text=True).stdout
        found += map(int, said.split())
    return found


def test_lacking_names_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ip").symlink_to(shutil.which("ip") or "/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert (
        networks.lacking() == "tc, unshare, nsenter, setpriv not found: apt-get install iproute2 util-linux"
    )
