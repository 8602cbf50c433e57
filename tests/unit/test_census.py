"""What Ray says of hosts, as `room` reads it: no cluster is started here."""

from __future__ import annotations

import socket
from pathlib import Path

from ray.core.generated import autoscaler_pb2

from lehr.launch import census, room
from lehr.launch.room import UNLIMITED, Growth, Room, Space

BOOTSTRAP = """
cluster_name: team
max_workers: 8
provider: {type: aws, region: eu-central-1}
auth: {ssh_user: ubuntu}
available_node_types:
  head: {node_config: {}, resources: {CPU: 0}, min_workers: 0, max_workers: 0}
  spot:
    {node_config: {}, resources: {CPU: 8, GPU: 1, "accelerator_type:A10G": 1}, min_workers: 0, max_workers: 4}
head_node_type: head
"""


def test_a_host_is_read_as_ray_tells_of_it() -> None:
    node = {
        "NodeID": "ab12", "Alive": True, "NodeManagerHostname": "h2", "NodeManagerAddress": "10.77.1.2",
        "NodeManagerPort": 4711, "Resources": {"CPU": 4.0, "memory": 8e9},
        "Labels": {"ray.io/node-group": "spot"},
    }  # fmt: skip
    assert census._space(node, {"CPU": 1.0}) == Space(
        "h2", "10.77.1.2", 4711, "ab12", {"CPU": 4.0, "memory": 8e9}, {"CPU": 1.0}, "spot"
    )


def test_what_ray_up_left_on_the_head_tells_how_far_the_cluster_grows(tmp_path: Path) -> None:
    path = tmp_path / "ray_bootstrap_config.yaml"
    path.write_text(BOOTSTRAP)
    growth = census._written(path)
    assert [(each.kind, each.most) for each in growth] == [("head", 1), ("spot", 4)]
    there = Room((Space("h1", node="a", total={"CPU": 0.0}, kind="head"),), growth)
    assert room.ever(there, {"CPU": 4.0, "GPU": 1.0, "accelerator_type:A10G": 0.001}) == 4
    assert room.ever(there, {"CPU": 4.0}) == 8


def test_no_such_page_is_no_growth(tmp_path: Path) -> None:
    assert census._written(tmp_path / "none.yaml") == ()
    (tmp_path / "odd.yaml").write_text("[1, 2")
    assert census._written(tmp_path / "odd.yaml") == ()


def test_what_an_autoscaler_tells_the_head() -> None:
    told = autoscaler_pb2.ClusterConfig()
    few = told.node_group_configs.add(name="few", max_count=2)
    few.resources["CPU"] = 4
    told.node_group_configs.add(name="many", max_count=-1).resources["CPU"] = 1
    assert census._told(told) == (Growth("few", {"CPU": 4.0}, 2), Growth("many", {"CPU": 1.0}, UNLIMITED))
    assert census._told(None) == ()


def test_hosts_that_do_not_answer_are_closed() -> None:
    with socket.socket() as open_, socket.socket() as shut:
        for each in (open_, shut):
            each.bind(("127.0.0.1", 0))
        open_.listen()
        hosts = [
            Space(name, "127.0.0.1", port, name)
            for name, port in (
                ("alive", open_.getsockname()[1]),
                ("dead", shut.getsockname()[1]),
                ("unknown", 0),
            )
        ]
        knocked = census.knocked(Room(tuple(hosts)).closing({}))
    assert {space.host: space.closed for space in knocked.spaces} == {
        "alive": "", "dead": "does not answer", "unknown": "",
    }  # fmt: skip


def test_hosts_that_are_closed_already_keep_their_reason() -> None:
    away = Space("h2", "127.0.0.1", 9, "b", closed="is being taken away")
    assert census.knocked(Room((away,))).spaces == (away,)
