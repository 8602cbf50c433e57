"""The faults that can be asked for, and whether they fit a plan.

A fault at step S strikes when S updates are done, before the next; each strikes once in a run, whatever its
number of attempts. A fault of the store begins at that moment for all workers, and lasts for a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from lehr.errors import UserError, letter
from lehr.plan import Plan

KINDS = {
    "503": "503 SlowDown: reduce your request rate",
    "500": "500 InternalError",
    "403": "403 AccessDenied",
    "refuse": "connection refused",
    "hang": "no answer",
    "slow": "slow answers",
    "cut": "connections cut in the middle of a body",
    "lost": "done, but its answer lost",
}
ALWAYS = "always"


@dataclass(frozen=True)
class Kill:
    """The process of a rank is killed (SIGKILL) when `step` updates are done."""

    OPTION: ClassVar[str] = "--kill-rank"
    rank: int
    step: int

    @property
    def name(self) -> str:
        return f"kill rank {self.rank} @ step {self.step}"


@dataclass(frozen=True)
class Outage:
    """The store fails on all workers.

    Args:
        kind: one of KINDS.
        duration_s: for how long; None: to the end.
        step: from then on; None: from the start of the first worker.
        rate: of a slow store, bytes a second; 0 where a factor is given.
        factor: of a slow store: how much longer each call takes; 0 where a rate is given.
    """

    OPTION: ClassVar[str] = "--store"
    kind: str
    duration_s: float | None
    step: int | None
    rate: float = 0.0
    factor: float = 0.0

    @property
    def name(self) -> str:
        how = f" {self.factor:g}x" if self.factor else f" {self.rate:g} B/s" if self.rate else ""
        lasts = ALWAYS if self.duration_s is None else f"{self.duration_s:g} s"
        return f"store {self.kind}{how} {lasts} @ " + ("start" if self.step is None else f"step {self.step}")


@dataclass(frozen=True)
class Slow:
    """Each step of a rank takes `factor` times as long."""

    OPTION: ClassVar[str] = "--slow-rank"
    rank: int
    factor: float

    @property
    def name(self) -> str:
        return f"slow rank {self.rank} {self.factor:g}x"


@dataclass(frozen=True)
class TrackerDown:
    """W&B cannot be reached.

    Args:
        duration_s: for how long; None: to the end.
        step: from then on; None: from the start.
    """

    OPTION: ClassVar[str] = "--wandb"
    duration_s: float | None = None
    step: int | None = None

    @property
    def whole(self) -> bool:
        """Whether it lasts from before the run's start to its end: then there need be no W&B at all."""
        return self.duration_s is None and self.step is None

    @property
    def name(self) -> str:
        lasts = "" if self.duration_s is None else f" {self.duration_s:g} s"
        return f"W&B down{lasts}" + ("" if self.step is None else f" @ step {self.step}")


Fault = Kill | Outage | Slow | TrackerDown
_TYPES: dict[str, Callable[..., Fault]] = {
    type_.__name__: type_ for type_ in (Kill, Outage, Slow, TrackerDown)
}


def document(faults: Iterable[Fault]) -> list[dict[str, Any]]:
    """The faults as JSON values, for other processes."""
    return [{"type": type(fault).__name__, **asdict(fault)} for fault in faults]


def restore(documents: Iterable[Mapping[str, Any]]) -> list[Fault]:
    """What `document` wrote."""
    return [
        _TYPES[each["type"]](**{key: value for key, value in each.items() if key != "type"})
        for each in documents
    ]


def check(faults: Sequence[Fault], plan: Plan) -> None:
    """Whether the plan can be struck so.

    Raises:
        UserError: there is no such rank or step, or no W&B to be down.
    """
    if not faults:
        options = ", ".join(type_.OPTION for type_ in (Kill, Outage, Slow, TrackerDown))
        raise UserError(letter("faults", "none is named", accepted=options, do="name at least one"))
    for fault in faults:
        _check_rank(fault, plan)
        _check_step(fault, plan)
    if any(isinstance(fault, TrackerDown) for fault in faults) and plan.spec.tracking.wandb is None:
        came, do = "the job does not use W&B", "give --set 'tracking.wandb={project: lehr}'"
        raise UserError(letter(TrackerDown.OPTION, came, do=do))


def _check_rank(fault: Fault, plan: Plan) -> None:
    rank = getattr(fault, "rank", 0)
    if rank >= plan.workers:
        one = f"0: {plan.spec.strategy.kind} has 1 worker here"
        raise UserError(
            letter(
                f"{fault.OPTION} ({fault.name})",
                f"the run has no rank {rank}",
                accepted=one
                if plan.workers == 1
                else f"0 to {plan.workers - 1}: it has {plan.workers} workers",
                do="name one of these, or change strategy.workers with --set",
            )
        )


def _check_step(fault: Fault, plan: Plan) -> None:
    step = getattr(fault, "step", None)
    if step is not None and step >= plan.steps:
        raise UserError(
            letter(
                f"{fault.OPTION} ({fault.name})",
                f"step {step} is not before the end: the plan has {plan.steps} steps",
                accepted=f"0 to {plan.steps - 1}: the number of updates that are done when it strikes",
                do="name an earlier step, or give a longer train.duration with --set",
            )
        )
