"""A sweep's own run in W&B: its best, a row a trial, its pictures."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from lehr.errors import UserError, letter
from lehr.sweep import results
from lehr.tracking import place as places

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

    return send(found) if summary.is_wanted(found.program.base()) else ""


def send(found: Found, project: str | None = None, entity: str | None = None) -> str:
    """Send how a sweep stands, whatever its job says of W&B; where it is then.

    Args:
        found: the sweep.
        project: in place of the job's, or where the job names none.
        entity: the same.

    Raises:
        UserError: there is no project or no key.
        LehrError: W&B does not take it, or the sweep cannot be read.
    """
    from lehr.tracking import summary

    place = summary.send(found.folder, plan(found, project, entity), made(found))
    return f"W&B {place.entity}/{place.project}/{place.id}"


def plan(found: Found, project: str | None = None, entity: str | None = None) -> Plan:
    """What W&B is told that was asked for: the job with its search, in the group of its trials.

    Raises:
        UserError: nobody names a project.
    """
    from lehr.spec.sections import Wandb

    base, spec = found.program.base(), found.program.spec
    node, known = spec.tracking.wandb, places.find(found.folder)
    where = project or (node.project if node is not None else known.project if known is not None else None)
    if where is None:
        came = "its job names no W&B project"
        raise UserError(letter(f"sweep {found.run.name}", came, do="give --project NAME"))
    changes: dict[str, Any] = {"project": where, "group": found.run.name, "name": None}
    changes |= {"entity": entity} if entity else {}
    node = node.model_copy(update=changes) if node is not None else Wandb(**changes)
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
    told["importance"] = found.importances
    return Summary(found.over, values, told, trials.pictures(found))
