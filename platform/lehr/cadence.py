"""When something is due, and how durations become steps.

Pure: no clock is read here. The caller brings the step and the seconds, so tests need no sleeping, and only
rank 0 looks at a clock while the others learn its verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Unit = Literal["steps", "epochs", "examples"]


@dataclass(frozen=True)
class Cadence:
    """How often: every `steps` steps, every `minutes` minutes, whichever comes first; with neither, never."""

    steps: int | None = None
    minutes: float | None = None


NEVER = Cadence()


def due(cadence: Cadence, step: int, *, last_step: int, elapsed_s: float) -> bool:
    """Whether the cadence falls due at `step`.

    Args:
        cadence: how often.
        step: the state's step: s is the state after s updates.
        last_step: the step at which it was due last, or at which this attempt began. Steps in between may be
            skipped: a multiple of `cadence.steps` that was passed over is due now.
        elapsed_s: seconds since then.
    """
    if step <= last_step:
        return False
    by_steps = cadence.steps is not None and step // cadence.steps > last_step // cadence.steps
    by_clock = cadence.minutes is not None and elapsed_s >= 60.0 * cadence.minutes
    return by_steps or by_clock


def steps_per_epoch(train_examples: int, global_batch: int) -> int:
    """Steps in which every example is seen once. The last batch may be partial."""
    return -(-train_examples // global_batch)


def to_steps(count: int, unit: Unit, *, train_examples: int, global_batch: int) -> int:
    """The first step at which `count` steps, epochs or examples are done.

    An epoch's last batch holds what is left of the epoch, so examples are counted in whole epochs and a rest.
    """
    epoch = steps_per_epoch(train_examples, global_batch)
    if unit == "steps":
        return count
    if unit == "epochs":
        return count * epoch
    epochs, rest = divmod(count, train_examples)
    return epochs * epoch + steps_per_epoch(rest, global_batch)
