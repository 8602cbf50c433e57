"""Room for workers on the hosts of a cluster: how many fit, now and ever, and how to say it. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lehr.errors import LaunchError, letter
from lehr.plan import Plan

GIB = 1 << 30
UNLIMITED = 1 << 30  # hosts that an autoscaler without a bound may add
ACCELERATOR = "accelerator_type:"  # a resource of Ray's: 1.0 on hosts with that type of GPU
_SOME = 0.001  # of it, which Ray's own trainers ask for
_EPSILON = 1e-6  # Ray counts in ten-thousandths, and floats do not
_NAMED = 4  # equal hosts that are called by their names

Resources = Mapping[str, float]


@dataclass(frozen=True)
class Space:
    """What one host offers to workers.

    Args:
        host: its name.
        address: where its Ray answers.
        port: of its Ray.
        node: Ray's id of it.
        total: all it has, by resource: CPU, GPU, memory in bytes, accelerator_type:X.
        free: what nobody has taken of it.
        kind: of the autoscaler's kinds of hosts, if one made it.
        closed: why it takes no workers now; "" when it does.
    """

    host: str
    address: str = ""
    port: int = 0
    node: str = ""
    total: Resources = field(default_factory=dict)
    free: Resources = field(default_factory=dict)
    kind: str = ""
    closed: str = ""


@dataclass(frozen=True)
class Growth:
    """Hosts of one kind that an autoscaler may have running at once."""

    kind: str
    total: Resources
    most: int


@dataclass(frozen=True)
class Room:
    """A cluster.

    Args:
        spaces: its hosts.
        growth: what an autoscaler may make of it.
        bounded: False when there is an autoscaler and nobody knows how far it goes.
    """

    spaces: tuple[Space, ...]
    growth: tuple[Growth, ...] = ()
    bounded: bool = True

    @property
    def grows(self) -> bool:
        """Whether an autoscaler may add hosts."""
        return bool(self.growth) or not self.bounded

    def closing(self, closed: Mapping[str, str]) -> Room:
        """The same without the hosts whose Ray ids are named, with why."""
        return self._with(dataclasses.replace(s, closed=closed.get(s.node, s.closed)) for s in self.spaces)

    def freeing(self, ours: Mapping[str, Resources]) -> Room:
        """The same once these resources, by Ray's id of the host, were given back."""
        return self._with(_freed(space, ours.get(space.node, {})) for space in self.spaces)

    def without(self, closed: str) -> Room:
        """The same without the hosts that are closed for this."""
        return self._with(space for space in self.spaces if space.closed != closed)

    def _with(self, spaces: Iterable[Space]) -> Room:
        return dataclasses.replace(self, spaces=tuple(spaces))


def _freed(space: Space, given: Resources) -> Space:
    names = {*space.free, *given}
    free = {
        name: min(space.free.get(name, 0.0) + given.get(name, 0.0), space.total.get(name, 0.0))
        for name in names
    }
    return dataclasses.replace(space, free=free)


def wants(plan: Plan, *, gpus: int) -> dict[str, float]:
    """What each worker asks Ray for.

    Args:
        plan: the plan.
        gpus: of each worker.
    """
    strategy = plan.spec.strategy
    asked: dict[str, float] = {"CPU": float(strategy.cpus_per_worker)}
    if gpus:
        asked["GPU"] = float(gpus)
        if strategy.accelerator is not None:
            asked[ACCELERATOR + strategy.accelerator] = _SOME
    if strategy.memory_gib_per_worker is not None:
        asked["memory"] = float(int(strategy.memory_gib_per_worker * GIB))
    return asked


def holds(there: Resources, asked: Resources) -> int:
    """How many workers that ask for this fit into what one host has: none is ever split."""
    return min(int((there.get(name, 0.0) + _EPSILON) / amount) for name, amount in asked.items() if amount)


def now(room: Room, asked: Resources) -> int:
    """How many workers fit at this moment."""
    return sum(holds(space.free, asked) for space in room.spaces if not space.closed)


def ever(room: Room, asked: Resources) -> int:
    """How many workers fit when nobody else is there and the cluster has grown as far as it may."""
    kinds = {growth.kind for growth in room.growth}
    there = sum(holds(space.total, asked) for space in room.spaces if space.kind not in kinds)
    return there + sum(holds(growth.total, asked) * growth.most for growth in room.growth)


def graphics(plan: Plan, room: Room, *, least: int) -> int:
    """GPUs that each worker gets: as many as it has devices, or 0.

    With `auto` they are taken where the cluster has enough for `least` workers; a job that names an
    accelerator wants GPUs.
    """
    strategy, each = plan.spec.strategy, plan.devices_per_worker
    if strategy.gpus is False:
        return 0
    if strategy.gpus is True or strategy.accelerator is not None:
        return each
    return each if ever(room, wants(plan, gpus=each)) >= least else 0


def require(room: Room, asked: Resources, *, least: int, most: int) -> None:
    """Say before waiting that the cluster never has room.

    Args:
        room: the cluster.
        asked: what each worker asks for.
        least: workers that there must be room for.
        most: workers that are wished for.

    Raises:
        LaunchError: the least number of workers does not fit.
    """
    fit = ever(room, asked)
    if fit >= least or not room.bounded:
        return
    count = f"{_workers(least)} of {amounts(asked)}"
    many = f"{'at least ' if least < most else ''}{count}"
    names = ["workers", "cpus_per_worker"]
    names += ["memory_gib_per_worker"] if "memory" in asked else []
    raise LaunchError(
        letter(
            "strategy.workers",
            f"{many} {'need' if least > 1 else 'needs'} more than this cluster ever has ({fit or 'none'} "
            f"of them {'fit' if fit > 1 else 'fits'}):\n    {'; '.join(contents(room, asked))}",
            do=f"lower {' or '.join(f'strategy.{name}' for name in names)}, "
            f"{'set strategy.gpus: false, ' if 'GPU' in asked else ''}or add hosts to the cluster",
        )
    )


def excludes(room: Room, asked: Resources, *, least: int, names: Sequence[str]) -> str:
    """A letter when a cluster never has room on the hosts that are not excluded; "" when it may have.

    Args:
        room: the cluster without the excluded hosts.
        asked: what each worker asks for.
        least: workers that there must be room for.
        names: the excluded hosts.
    """
    fit = ever(room, asked)
    if fit >= least or not room.bounded:
        return ""
    return letter(
        "recovery.exclude_after",
        f"{_workers(least)} of {amounts(asked)} {'need' if least > 1 else 'needs'} more than the cluster "
        f"ever has without {', '.join(names)}, excluded for failures there:\n"
        f"    {'; '.join(contents(room, asked))}",
        do="mend what the logs tell, add hosts, lower strategy.workers or raise recovery.exclude_after, and "
        "give the same command again: it goes on where it was",
    )


def waits(count: int, room: Room, asked: Resources, *, before: Iterable[str] = ()) -> str:
    """What a job waits for that needs so many workers: what is asked, what is free, who is missing.

    Args:
        count: workers that it needs at least.
        room: the cluster.
        asked: what each worker asks for.
        before: names of the hosts that were there when the last attempt began.
    """
    free = _grouped((space.host, _said(space.free, asked)) for space in room.spaces if not space.closed)
    closed = [f"{space.host} {space.closed}" for space in room.spaces if space.closed]
    lost = sorted(set(before) - {space.host for space in room.spaces})
    gone = [f"lost since the last attempt: {', '.join(lost)}"] if lost else []
    told = "; ".join([*(free or ["no host is there"]), *closed, *gone])
    return f"waits for room: {_workers(count)} of {amounts(asked)}; free: {told}"


def contents(room: Room, asked: Resources) -> list[str]:
    """All that hosts have of what is asked for, equal hosts together; one line for each kind."""
    kinds = {growth.kind for growth in room.growth}
    there = [(space.host, _said(space.total, asked)) for space in room.spaces if space.kind not in kinds]
    lines = _grouped(there) or ([] if room.growth else ["no host is there"])
    return lines + [f"{_many(growth.most)} {growth.kind}: {_said(growth.total, asked)}"
                    for growth in room.growth]  # fmt: skip


def _many(most: int) -> str:
    return "any number of" if most >= UNLIMITED else f"up to {most} of"


def _grouped(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Hosts that have the same, named while they are few; by name, for Ray tells them in any order."""
    groups: dict[str, list[str]] = {}
    for name, text in sorted(pairs):
        groups.setdefault(text, []).append(name)
    lines = []
    for text, names in groups.items():
        called = ", ".join(names) if len(names) <= _NAMED else f"{len(names)} hosts"
        lines.append(f"{called}: {text}{' each' if len(names) > 1 else ''}")
    return lines


def amounts(asked: Resources) -> str:
    """What one worker asks for: `1 CPU, 2 GPUs (H100) and 8 GiB`."""
    return _joined(_parts(asked, [name for name in asked if asked[name]]))


def _said(there: Resources, asked: Resources) -> str:
    """What a host has of CPUs and of all that is asked for."""
    return _joined(_parts(there, [name for name in asked if not name.startswith(ACCELERATOR)], types=there))


def _parts(there: Resources, names: list[str], *, types: Resources | None = None) -> list[str]:
    source = there if types is None else types
    kinds = [name.removeprefix(ACCELERATOR) for name in source if name.startswith(ACCELERATOR)]
    parts = []
    for name in names:
        amount = there.get(name, 0.0)
        if name == "memory":
            parts.append(f"{amount / GIB:.3g} GiB")
        elif name in ("CPU", "GPU"):
            suffix = f" ({', '.join(kinds)})" if name == "GPU" and kinds else ""
            parts.append(f"{amount:g} {name}{'' if amount == 1 else 's'}{suffix}")
        elif not name.startswith(ACCELERATOR):
            parts.append(f"{amount:g} {name}")
    return parts


def _joined(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def _workers(count: int) -> str:
    return f"{count} worker" if count == 1 else f"{count} workers"
