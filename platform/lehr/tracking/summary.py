"""A sweep as a run of its own in W&B, beside those of its trials: how it stands, and its pictures.

One row a call, however often: W&B's run is gone on with. W&B must be online; an offline sweep is sent later.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from lehr.errors import LehrError
from lehr.plan import Plan
from lehr.store import Store
from lehr.tracking import place as places
from lehr.tracking import wandb
from lehr.tracking.place import Place
from lehr.tracking.replay import Row

INIT_S, FINISH_S = 20.0, 60.0  # that W&B may take to answer, and to be sent all of it


@dataclass(frozen=True)
class Summary:
    """How a sweep stands.

    Args:
        over: trials of which nothing more becomes.
        values: numbers by name.
        told: becomes part of the configuration: the best trial, a row a trial.
        pictures: PNG by name.
    """

    over: int
    values: Mapping[str, float] = field(default_factory=dict)
    told: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, bytes] = field(default_factory=dict)


def is_wanted(plan: Plan) -> bool:
    """Whether the job wants W&B, and it can be reached from here."""
    node = plan.spec.tracking.wandb
    return node is not None and wandb.mode(node) == "online"


def send(folder: Store, plan: Plan, summary: Summary) -> Place:
    """Add how a sweep stands now to its run in W&B; where that is.

    Args:
        folder: of the sweep.
        plan: what a trial is like, under the sweep's id and with its `search`.
        summary: what is sent.

    Raises:
        UserError: there is no key.
        LehrError: W&B does not take it.
        StorageError: which W&B run it is cannot be read or kept.
    """
    client = wandb.Client(folder, init_s=INIT_S, finish_s=FINISH_S)
    with closing(client.begin(plan)) as session:
        session.configure(dict(summary.told))
        row = Row(session.rows, summary.over, dict(summary.values))
        session.row(row, {f"sweep/{name}": png for name, png in summary.pictures.items()})
        session.finish(0)
    found = places.find(folder)
    if found is None:
        raise LehrError(f"{folder.url}/{places.KEY} is gone")
    return found
