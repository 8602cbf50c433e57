"""Small jobs on real digits, for tests that train: a text to start from and overrides."""

from __future__ import annotations

from pathlib import Path

from lehr import checkpoint, journal, spec
from lehr import plan as plans
from lehr import store as stores
from lehr.checkpoint import Manifest, State
from lehr.plan import Plan
from lehr.store import Store

EBM = """
version: 1
name: ebm
model: {kind: ebm}
data: {kind: digits, image_size: 16, range: [-1, 1], train_examples: 300, validation_examples: 50}
train: {global_batch: 64, duration: {steps: 10}, optimizer: {kind: adam, learning_rate: 1.0e-4}}
sampler: {kind: langevin, steps: 10, buffer: {size: 512}}
checkpoint: {every: {steps: 5}}
tracking: {every: {steps: 1}}
"""

LENET = """
version: 1
name: lenet
model: {kind: lenet}
data: {kind: digits, image_size: 28, train_examples: 300, validation_examples: 50}
train: {global_batch: 64, duration: {steps: 10}, optimizer: {kind: sgd, learning_rate: 0.1}}
checkpoint: {every: {steps: 5}}
tracking: {every: {steps: 1}}
"""
# 300 examples in batches of 64: the fifth batch is partial, so both jobs pass an uneven one twice.


def plan(text: str, *sets: str, run_id: str | None = None) -> Plan:
    """The plan of a job text with `--set` overrides."""
    return plans.make(spec.parse(text, sets=sets), run_id=run_id)


def storage(folder: Path) -> Store:
    return stores.connect(str(folder))


def final(run: Store, *, slots: int = 64) -> tuple[Manifest, State]:
    """The newest good checkpoint of a run and its whole state, chains of all workers put together."""
    manifest = checkpoint.newest(run).manifest
    assert manifest is not None
    return manifest, checkpoint.load(run, manifest, first_slot=0, slots=slots)


def story(run: Store) -> list[tuple[int, dict[str, float]]]:
    """The metrics that do not depend on time, by step."""
    entries = [entry for entry in journal.read(run) if entry["type"] == "metrics"]
    return [
        (entry["step"], {k: v for k, v in entry["values"].items() if not k.startswith(("time/", "rate/"))})
        for entry in entries
    ]
