"""What a run does when it diverges: it stops, or goes back to its newest checkpoint and changes something.

The same weights, chains, data and noise diverge again: going back alone mends nothing. So

- `rollback` passes over the batches between the checkpoint and the divergence, the one that diverged included
  (as Chowdhery et al. 2022 did by hand, arXiv:2204.02311, section 5.1). All randomness is addressed by the
  number of the batch, so noise and the chains' draws are others with it.
- `halve_step` goes through the same batches with half the sampler's step size, or half the learning rate
  where there is no Langevin sampler; for good, and halved again the next time.

What was changed is a `Detour`, kept in the progress of every checkpoint after it. A crash before the first
of them forgets it; then the run diverges at the same place, and finds the same detour again.

Going back begins another attempt, as after a crash: what is told after the checkpoint is told anew. All ranks
see the same sums, so they turn back at the same step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from lehr import checkpoint
from lehr.checkpoint import copying
from lehr.plan import Plan
from lehr.store import Store
from lehr.strategies.guard import agree
from lehr.strategies.strategy import Strategy

KEY = copying.DETOUR  # in a checkpoint's progress
MOST = 5  # times that a run goes back; then it stops after all


@dataclass(frozen=True)
class Detour:
    """What a run does otherwise than its plan says.

    Args:
        times: how often it went back.
        halved: how often the step was halved.
        passed: batches passed over: step s is made with batch s + passed.
    """

    times: int = 0
    halved: int = 0
    passed: int = 0

    @property
    def factor(self) -> float:
        """Of the step size."""
        return 0.5**self.halved

    def progress(self) -> dict[str, Any]:
        """What a checkpoint's progress keeps: nothing, where there is nothing to keep."""
        return {KEY: asdict(self)} if self.times else {}


NONE = Detour()


def known(progress: Mapping[str, Any]) -> Detour:
    """That of the checkpoint which an attempt goes on from; the same on every rank."""
    kept = progress.get(KEY, {})
    return Detour(*(int(kept.get(name, 0)) for name in ("times", "halved", "passed")))


def next_one(run: Store, plan: Plan, strategy: Strategy, detour: Detour, *, step: int) -> Detour | None:
    """The detour to take from the newest checkpoint, the same on every rank; None to stop.

    Args:
        run: its folder, in which all that will be committed is.
        plan: of the run.
        strategy: of this worker.
        detour: so far.
        step: the one that diverged.
    """
    rule = plan.spec.recovery.on_divergence
    if rule == "stop" or detour.times >= MOST:
        return None
    if rule == "halve_step":
        return replace(detour, times=detour.times + 1, halved=detour.halved + 1)
    newest = 0
    if strategy.rank == 0:
        manifest = checkpoint.newest(run, spec_hash=plan.spec_hash).manifest
        newest = manifest.step if manifest is not None else 0
    passed = detour.passed + step - agree(strategy, [newest])[0]
    return replace(detour, times=detour.times + 1, passed=passed)


def changed(plan: Plan, detour: Detour) -> Plan:
    """The plan that the step is built from: with the sampler's step size halved as often as it was."""
    sampler = plan.spec.sampler
    if not detour.halved or sampler is None or sampler.kind != "langevin":
        return plan
    smaller = sampler.model_copy(update={"step_size": sampler.step_size * detour.factor})
    return replace(plan, spec=plan.spec.model_copy(update={"sampler": smaller}))


def slow(variables: Mapping[str, Any], plan: Plan, detour: Detour) -> None:
    """Set the learning rate, where it is that which is halved; after the checkpoint was put in place.

    Args:
        variables: of the snapshot, by name.
        plan: of the run.
        detour: of this attempt.
    """
    if not detour.halved or hasattr(plan.spec.sampler, "step_size"):
        return
    for name, variable in variables.items():
        if name.startswith("optimizer/") and name.endswith("/learning_rate"):
            variable.assign(plan.spec.train.optimizer.learning_rate * detour.factor)


def finite(variables: Mapping[str, Any]) -> bool:
    """Whether all weights are numbers. A checkpoint of others would be no place to go back to: the loss
    tells of them one step late."""
    weights = (variable for name, variable in variables.items() if name.startswith("weights/"))
    return all(bool(np.isfinite(weight.numpy()).all()) for weight in weights)
