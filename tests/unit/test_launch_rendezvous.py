"""Who is who: the environments of all workers of one attempt."""

from __future__ import annotations

import json
import socket
import urllib.request

import psutil
import pytest

from lehr.errors import LaunchError
from lehr.launch import rendezvous
from lehr.launch.rendezvous import LOOPBACK, Place, Port


def places(*hosts: str) -> list[Place]:
    return [Place(host, f"10.0.0.{ord(host)}", f"eth-{host}", 5000 + rank) for rank, host in enumerate(hosts)]


def column(environments: list[dict[str, str]], name: str) -> list[str]:
    return [each[f"HOROVOD_{name}"] for each in environments]


def test_horovod_ranks_are_grouped_by_host() -> None:
    meeting = rendezvous.meet("horovod", places("a", "a", "b", "b", "b"))
    try:
        found = meeting.environments
        assert column(found, "RANK") == ["0", "1", "2", "3", "4"]
        assert column(found, "SIZE") == ["5"] * 5
        assert column(found, "LOCAL_RANK") == ["0", "1", "0", "1", "2"]
        assert column(found, "LOCAL_SIZE") == ["2", "2", "3", "3", "3"]
        assert column(found, "CROSS_RANK") == ["0", "0", "1", "1", "0"]
        assert column(found, "CROSS_SIZE") == ["2", "2", "2", "2", "1"]
        assert column(found, "HOSTNAME") == ["a", "a", "b", "b", "b"]
        assert column(found, "GLOO_IFACE") == ["eth-a", "eth-a", "eth-b", "eth-b", "eth-b"]
        assert {each["HOROVOD_CONTROLLER"] for each in found} == {"gloo"}
    finally:
        meeting.close()


def test_horovod_ranks_of_one_host_must_be_neighbours() -> None:
    with pytest.raises(AssertionError, match="not neighbours"):
        rendezvous.meet("horovod", places("a", "b", "a"))


def test_horovod_server_answers_until_it_is_closed() -> None:
    meeting = rendezvous.meet("horovod", places("a"))
    port = int(meeting.environments[0]["HOROVOD_GLOO_RENDEZVOUS_PORT"])
    url = f"http://{LOOPBACK}:{port}/global/x"
    request = urllib.request.Request(url, data=b"here", method="PUT")
    urllib.request.urlopen(request, timeout=10).close()
    assert urllib.request.urlopen(url, timeout=10).read() == b"here"
    meeting.close()
    meeting.close()  # an attempt may end twice: by its failure and by the shutdown


def test_workers_of_tf_distribute_know_all_addresses() -> None:
    meeting = rendezvous.meet("multiworker", [Place("a", "10.0.0.1", "e", 5), Place("b", "fe80::1", "e", 6)])
    tasks = [json.loads(each["TF_CONFIG"]) for each in meeting.environments]
    assert [task["task"] for task in tasks] == [
        {"type": "worker", "index": 0},
        {"type": "worker", "index": 1},
    ]
    assert all(task["cluster"] == {"worker": ["10.0.0.1:5", "[fe80::1]:6"]} for task in tasks)
    assert not any("TF_USE_LEGACY_KERAS" in each for each in meeting.environments)
    meeting.close()


@pytest.mark.parametrize("kind", ["single", "mirrored"])
def test_lonely_workers_are_told_nothing(kind: str) -> None:
    assert rendezvous.meet(kind, places("a")).environments == [{}]


def test_held_port_is_nobody_elses_until_it_is_wanted() -> None:
    held = Port(LOOPBACK)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind((LOOPBACK, held.number))
    with socket.socket() as wanted:  # as TensorFlow's server does with TF_GRPC_REUSE_PORT
        wanted.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        wanted.bind((LOOPBACK, held.number))
        wanted.listen()
        socket.create_connection((LOOPBACK, held.number), timeout=5).close()
    held.close()


def test_interface_is_found_by_its_address() -> None:
    addresses = {each.address for each in psutil.net_if_addrs()[rendezvous.interface(LOOPBACK)]}
    assert LOOPBACK in addresses


def test_address_of_no_interface_is_refused() -> None:
    with pytest.raises(LaunchError, match=r"no interface of .* has the address 203\.0\.113\.7"):
        rendezvous.interface("203.0.113.7")
