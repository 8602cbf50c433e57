"""A sweep's own run in W&B: its best, a row a trial, its pictures."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from lehr.sweep import results

if TYPE_CHECKING:
    from lehr.cli.trials import Found
    from lehr.plan import Plan
    from lehr.tracking.summary import Summary


def publish(found: Found) -> str:
    """Send how a sweep stands, if its job wants W&B and that is online; where it is then, else "".

    Raises:
        LehrError: W&B does not take it, or the sweep cannot be read.
    """
    from lehr.tracking import summary

    if not summary.is_wanted(found.program.base()):
        return ""
    place = summary.send(found.folder, plan(found), made(found))
    return f"W&B {place.entity}/{place.project}/{place.id}"


def plan(found: Found) -> Plan:
    """What W&B is told that was asked for: the job with its search, in the group of its trials."""
    base, spec = found.program.base(), found.program.spec
    assert spec.tracking.wandb is not None, "it is wanted"
    node = spec.tracking.wandb.model_copy(update={"group": found.run.name, "name": None})
    tracking = spec.tracking.model_copy(update={"wandb": node})
    return dataclasses.replace(base, spec=spec.model_copy(update={"tracking": tracking}))


def made(found: Found) -> Summary:
    """What is sent."""
    from lehr.cli import trials
    from lehr.tracking.summary import Summary

    ranked = results.ranking(found.history, found.mode)
    values = {"sweep/trials_over": float(found.over), "sweep/trials": float(found.wanted)}
    told: dict[str, Any] = {"trials": results.rows(found.program, found.history)}
    if ranked:
        values["sweep/best"] = float(ranked[0].best(found.mode) or 0.0)
        start = results.best_segment(ranked[0], found.mode).start
        told["best"] = {"trial": start.trial, "run": start.run, "parameters": dict(start.parameters)}
    told["importance"] = trials.importances(found)
    return Summary(found.over, values, told, trials.pictures(found))
