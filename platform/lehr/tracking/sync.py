"""`lehr track sync`: from the journal in storage to W&B, for whatever is missing there."""

from __future__ import annotations

import json
import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from lehr import status
from lehr.errors import KeyMissing, UserError, letter
from lehr.journal import Entry
from lehr.plan import Plan
from lehr.plan import restore as restored
from lehr.spec.sections import Wandb as Node
from lehr.store import Store
from lehr.tracking import place as places
from lehr.tracking import replay, wandb
from lehr.tracking.online import arrived
from lehr.tracking.place import Place
from lehr.tracking.replay import Row
from lehr.tracking.sending import Sender, Unsent, lacking, manifest

INIT_S, ANSWER_S, ARRIVE_S = 60.0, 30.0, 30.0
PAUSE_S = 3.0  # before the second try
FINISH_S = 3600.0  # a long history takes its time; W&B's client gives up by itself when nothing moves


@dataclass(frozen=True)
class Synced:
    """What was there and what was sent: rows, pictures and checkpoints."""

    place: Place
    rows: int
    had: int
    sent: int
    pictures: int = 0
    checkpoints: int = 0

    @property
    def nothing(self) -> bool:
        """Whether nothing was missing."""
        return not (self.sent or self.pictures or self.checkpoints)


@dataclass(frozen=True)
class Missing:
    """What W&B lacks."""

    had: int
    rows: int
    files: dict[str, str]  # the picture's key in the run's folder, by W&B's name
    checkpoints: tuple[str, ...]
    known: frozenset[str]


def sync(run: Store, *, project: str | None = None, entity: str | None = None) -> Synced:
    """Send what W&B lacks of a run. Nothing is sent twice, however often it is called.

    Args:
        run: its folder.
        project: in place of the job's, or where the job names none.
        entity: the same.

    Raises:
        UserError: there is no project or no key, or the run has no journal.
        Refused: W&B does not take the key.
        Unsent: W&B does not answer, or lacks something still.
        StorageError: the run cannot be read.
    """
    plan, entries = _plan(run, project, entity), list(replay.entries(run))
    if not entries:
        raise UserError(letter(run.url, "the run has no journal yet", do="sync it when it has begun"))
    node: Any = plan.spec.tracking.wandb
    secret = wandb.required(node)
    place = places.settle(
        run, plan.run_id, project=node.project, entity=node.entity, code=lambda: _code(entries)
    )
    try:
        return _sync(run, plan, place, secret, entries)
    except Unsent:  # a hiccup of the network, or of the service that W&B's client starts here: once more
        wandb.end_service()
        time.sleep(PAUSE_S)
        return _sync(run, plan, place, secret, entries)
    finally:
        wandb.end_service()


def _sync(run: Store, plan: Plan, place: Place, secret: str, entries: list[Entry]) -> Synced:
    server = wandb.Server(place, secret, ANSWER_S)
    place = wandb.replaced(place, server.entity)
    rows = list(replay.rows(entries))
    missing = _missing(run, rows, entries, server)
    if missing.rows or missing.checkpoints:
        _send(run, plan, place, secret, (entries, missing))
        places.keep(run, place)
        server = wandb.Server(place, secret, ANSWER_S)  # the one before ended with the session
        if (there := arrived(server, len(rows), ARRIVE_S)) < len(rows):
            raise Unsent(f"W&B has {there:,} of {len(rows):,} rows; sync it again later")
        missing = replace(missing, files=lacking(run, rows, server))
    server.upload((name, run.read(key)) for name, key in missing.files.items())
    return Synced(place, len(rows), missing.had, missing.rows, len(missing.files), len(missing.checkpoints))


def _plan(run: Store, project: str | None, entity: str | None) -> Plan:
    """The run's plan, with where in W&B it is to be."""
    try:
        plan = restored(json.loads(run.read("plan.json")))
    except (KeyMissing, ValueError):
        raise UserError(letter(run.url, "there is no plan.json that can be read")) from None
    node, known = plan.spec.tracking.wandb, places.find(run)
    where = project or (node.project if node is not None else known.project if known is not None else None)
    if where is None:
        raise UserError(
            letter(f"run {plan.run_id}", "its job names no W&B project", do="give --project NAME")
        )
    changes: dict[str, Any] = {"project": where} | ({"entity": entity} if entity else {})
    node = node.model_copy(update=changes) if node is not None else Node(**changes)
    tracking = plan.spec.tracking.model_copy(update={"wandb": node})
    return replace(plan, spec=plan.spec.model_copy(update={"tracking": tracking}))


def _code(entries: list[Entry]) -> str:
    """What trained, as the journal tells it: the code here is another."""
    starts = [entry.get("versions") or {} for entry in entries if entry["type"] == "start"]
    version = starts[0].get("lehr") if starts else None
    return f"lehr {version}" if version else ""


def _missing(run: Store, rows: list[Row], entries: list[Entry], server: wandb.Server) -> Missing:
    had = server.rows()
    known = frozenset(server.checkpoints()) if had else frozenset()
    told = {entry["checkpoint"] for entry in entries if entry["type"] == "event"
            and entry["event"] == "checkpoint" and "checkpoint" in entry}  # fmt: skip
    unknown = tuple(name for name in sorted(told - known) if manifest(run, name) is not None)
    files = lacking(run, rows[:had], server) if had else {}
    return Missing(had, max(0, len(rows) - had), files, unknown, known)


def _send(run: Store, plan: Plan, place: Place, secret: str, what: tuple[list[Entry], Missing]) -> None:
    entries, missing = what
    with closing(wandb.Session(plan, place, secret=secret, init_s=INIT_S, finish_s=FINISH_S)) as session:
        if session.rows != missing.had:
            raise Unsent(f"W&B says {missing.had:,} rows, then {session.rows:,}: does somebody else send?")
        sender = Sender(run, session, set(missing.known))
        for entry in entries:
            sender.take(entry)
        session.finish(sender.exit_code)


def alive(run: Store) -> bool:
    """Whether an attempt is at it right now, which sends the run itself."""
    said = status.read(run)
    return said is not None and said.status in status.ALIVE and said.silent_s(time.time()) is None
