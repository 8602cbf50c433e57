"""Evaluations in a run's journal: a file each, made whole and once.

journal/evaluation-0001.jsonl is one line, an event `evaluation` at the step of its checkpoint. It is in no
attempt's file: those belong to the attempts, of which only the last may write, while an evaluation may come
at any time, from anywhere, and several at once. It needs no fence either: what it is about is a committed
checkpoint, which it names with its sum, and no later attempt changes that. `journal.read` passes it over, so
that the rows which trackers count stay where they are.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Mapping
from itertools import count as counting
from typing import Any

from lehr.journal import Entry, encode, numbers
from lehr.store import Store

EVENT = "evaluation"
_FILE = re.compile(r"journal/evaluation-(\d+)\.jsonl")
_NEEDED = {"event", "step", "checkpoint", "values"}


def key(number: int) -> str:
    """Where an evaluation is, below its run."""
    return f"journal/evaluation-{number:04d}.jsonl"


def write(
    run: Store, *, step: int, attempt: int, checkpoint: Mapping[str, str], values: Mapping[str, float],
    facts: Mapping[str, Any],
) -> str:  # fmt: skip
    """Add an evaluation to the run's journal; the key where it is.

    Args:
        run: the run's folder.
        step: of the checkpoint.
        attempt: that wrote the checkpoint.
        checkpoint: its `name` and `manifest_sha256`.
        values: numbers by name.
        facts: what the numbers depend on: counts, seeds, the extractor.
    """
    head = {"type": "event", "time": time.time(), "attempt": attempt, "step": step, "event": EVENT}
    # Signed, so that a store which asks again after a lost answer knows its own work.
    entry = head | {"checkpoint": dict(checkpoint), "values": dict(values), **facts, "by": uuid.uuid4().hex}
    line = json.dumps(encode(entry), separators=(",", ":"), allow_nan=False).encode() + b"\n"
    first = max(_numbers(run), default=0) + 1
    return next(key(number) for number in counting(first) if run.create(key(number), line))


def read(run: Store) -> list[Entry]:
    """All evaluations of a run, oldest first; what cannot be read as one is left out."""
    found = (_entry(run.read(key(number))) for number in _numbers(run))
    return [entry for entry in found if entry is not None]


def _numbers(run: Store) -> list[int]:
    found = (_FILE.fullmatch(name) for name in run.list("journal"))
    return sorted(int(match[1]) for match in found if match)


def _entry(data: bytes) -> Entry | None:
    try:
        entry = json.loads(data)
    except ValueError:
        return None
    if not isinstance(entry, dict) or not entry.keys() >= _NEEDED or entry["event"] != EVENT:
        return None
    return entry | {"values": numbers(entry["values"])}
