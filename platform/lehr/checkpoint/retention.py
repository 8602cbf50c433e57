"""Which checkpoints stay. Pure: nothing is read or deleted here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, Protocol

from lehr.checkpoint.manifest import Manifest


class Best(Protocol):
    """A metric that picks one checkpoint to keep for good."""

    @property
    def metric(self) -> str: ...
    @property
    def mode(self) -> Literal["min", "max"]: ...


class Policy(Protocol):
    """How many to keep: the spec's `checkpoint` section is one."""

    @property
    def keep_last(self) -> int: ...
    @property
    def keep_best(self) -> Best | None: ...


def keep(manifests: Iterable[Manifest], *, keep_last: int, keep_best: Best | None = None) -> set[str]:
    """Names of the checkpoints to keep; the others may be deleted.

    Kept are the `keep_last` newest by step, then attempt (at least one), and the best by a metric, of those
    that have it as a number, the older of equals.
    """
    newest_first = sorted(manifests, key=_age, reverse=True)
    kept = {manifest.name for manifest in newest_first[: max(1, keep_last)]}
    if keep_best is not None and (chosen := best(newest_first, keep_best)):
        kept.add(chosen.name)
    return kept


def best(manifests: Iterable[Manifest], by: Best) -> Manifest | None:
    """The best by a metric, the older of equals; None when none has it as a number."""
    sign = 1 if by.mode == "min" else -1
    rated = [m for m in manifests if not math.isnan(m.metrics.get(by.metric, math.nan))]
    return min(rated, key=lambda m: (sign * m.metrics[by.metric], *_age(m)), default=None)


def superseded(manifests: Iterable[Manifest], *, attempt: int, from_step: int | None) -> set[str]:
    """Names of those that an attempt which resumed at `from_step` replaces: earlier attempts' later steps.

    Such are left when the newest checkpoint could not be loaded and an older one was. As in the journal, the
    new attempt's account is the one that counts; else the broken one would be the newest for ever. An attempt
    that resumed from none replaces none.
    """
    if from_step is None:
        return set()
    return {m.name for m in manifests if m.attempt < attempt and m.step > from_step}


def _age(manifest: Manifest) -> tuple[int, int]:
    return manifest.step, manifest.attempt
