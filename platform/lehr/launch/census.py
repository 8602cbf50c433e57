"""What Ray knows of the hosts of its cluster, as `room` reads it."""

from __future__ import annotations

import dataclasses
import json
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants
from ray._private.state import state
from ray.experimental import internal_kv

from lehr.launch.room import UNLIMITED, Growth, Room, Space

KNOCK_S = 1.0
BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")
_AT_ONCE = 32
_KIND = "ray.io/node-group"  # label that autoscalers give their hosts
_AWAY = "is being taken away"
_DEAF = "does not answer"


def take() -> Room:
    """All hosts that Ray counts as alive; those that are being taken away are closed.

    Raises:
        Exception: whatever Ray raises while its head does not answer.
    """
    free = state.available_resources_per_node()
    away = state.get_draining_nodes()
    spaces = [_space(node, free.get(node["NodeID"], {})) for node in ray.nodes() if node["Alive"]]
    return Room(tuple(spaces)).closing(dict.fromkeys(away, _AWAY))


def grown() -> Room:
    """The same, and what an autoscaler may make of it."""
    growth = _told(state.get_cluster_config()) or _written(BOOTSTRAP.expanduser())
    return dataclasses.replace(take(), growth=growth, bounded=bool(growth) or not _scales())


def _space(node: Mapping[str, Any], free: Mapping[str, float]) -> Space:
    return Space(
        host=str(node["NodeManagerHostname"]),
        address=str(node["NodeManagerAddress"]),
        port=int(node["NodeManagerPort"]),
        node=str(node["NodeID"]),
        total={name: float(amount) for name, amount in node["Resources"].items()},
        free={name: float(amount) for name, amount in free.items()},
        kind=str(node.get("Labels", {}).get(_KIND, "")),
    )


def _told(config: Any) -> tuple[Growth, ...]:
    """The kinds of hosts as some autoscalers tell Ray's head; their word for "without a bound" is -1."""
    groups = config.node_group_configs if config is not None else ()
    return tuple(_growth(group.name, dict(group.resources), group.max_count) for group in groups)


def _written(path: Path) -> tuple[Growth, ...]:
    """The kinds of hosts as `ray up` leaves them on the head, which is where drivers of jobs are."""
    from ray.autoscaler.v2.instance_manager.config import FileConfigReader

    try:
        kinds = FileConfigReader(str(path)).get_cached_autoscaling_config().get_node_type_configs() or {}
    except Exception:  # not there, or not for us: then the hosts that are there are all that is known
        return ()
    return tuple(_growth(name, kind.resources, kind.max_worker_nodes) for name, kind in kinds.items())


def _growth(kind: str, resources: Mapping[str, float], most: int) -> Growth:
    total = {name: float(UNLIMITED if amount < 0 else amount) for name, amount in resources.items()}
    return Growth(kind, total, UNLIMITED if most < 0 else most)


def _scales() -> bool:
    """Whether an autoscaler is at work. On a cluster without one, Ray names each host a kind of its own."""
    try:
        said = internal_kv._internal_kv_get(ray_constants.DEBUG_AUTOSCALING_STATUS)
        kinds = json.loads(said or b"{}").get("autoscaler_report", {}).get("active_nodes", {})
    except Exception:  # it is a page for people
        return False
    return any(not kind.startswith("node_") for kind in kinds)


def knocked(room: Room) -> Room:
    """The same without the hosts whose Ray does not answer: a cut cable is known here before Ray knows it."""
    open_ = [space for space in room.spaces if not space.closed and space.port]
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="lehr-knock") as threads:
        answers = list(threads.map(_answers, open_))
    return room.closing({s.node: _DEAF for s, answered in zip(open_, answers, strict=True) if not answered})


def _answers(space: Space) -> bool:
    try:
        socket.create_connection((space.address, space.port), timeout=KNOCK_S).close()
    except OSError:
        return False
    return True


def held(group: Any) -> dict[str, dict[str, float]]:
    """What a group of workers holds, by Ray's id of the host; {} once it was given back."""
    if group is None or not group.has_started():
        return {}
    placement = group.get_worker_group_state().placement_group_handle.placement_group
    table = ray.util.placement_group_table(placement)
    if table.get("state") == "REMOVED":
        return {}
    there: dict[str, dict[str, float]] = {}
    for number, node in table.get("bundles_to_node_id", {}).items():
        ours = there.setdefault(node, {})
        for name, amount in table["bundles"][number].items():
            ours[name] = ours.get(name, 0.0) + amount
    return there


def release(group: Any) -> None:
    """Give back what a group of workers holds, whose end Ray Train has seen but not yet tidied up.

    Not by the group's own `shutdown`: the controller calls that before it starts another one.
    """
    if group is None or not group.has_started():
        return
    members = group.get_worker_group_state()
    for worker in members.workers:
        ray.kill(worker.actor)
    ray.util.remove_placement_group(members.placement_group_handle.placement_group)
