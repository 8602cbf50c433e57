"""A small job of each kind of generative model, and a worker that trains them all in one process.

Starting processes, TensorFlow and a strategy takes far longer than ten steps of any of them, so the worker
trains one job after another under a strategy that it makes once: `kinds:train` as a worker's name.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import jobs
from lehr.plan import Plan
from lehr.store import Store
from lehr.worker import composition
from lehr.worker.outcome import Outcome

STEPS = 10
RECIPES = "LEHR_TEST_RECIPES"  # in the environment: the folder with recipes.json
_COMMON = f"""
version: 1
train: {{global_batch: 32, duration: {{steps: {STEPS}}}, optimizer: {{kind: adam, learning_rate: 1.0e-3}}}}
checkpoint: {{every: {{steps: 5}}}}
tracking: {{every: {{steps: 1}}}}
"""  # 140 examples in batches of 32: the fifth is partial, so each job passes an uneven one twice
_DIGITS = "{{kind: digits, levels: {levels}, train_examples: 140, validation_examples: 50}}"
_BINARY, _GREY = _DIGITS.format(levels=2), _DIGITS.format(levels=4)
_WORDS = (
    "{kind: recipes, file: recipes.json, vocabulary: 40, length: 12, train_examples: 140,"
    " validation_examples: 20}"
)
_TEXT = "chop the onion and boil it in a pot with salt until soft then add pepper serve hot"
_LAND = "{kind: land, train_examples: 140, validation_examples: 50}"
_KINDS = {
    "rbm": (_BINARY, "{kind: rbm, hidden: 24}\nsampler: {kind: gibbs, steps: 2}"),
    "boltzmann": (_BINARY, "{kind: boltzmann, hidden: 6}\nsampler: {kind: gibbs, steps: 1}"),
    "dbn": (
        _BINARY,
        "{kind: dbn, hidden: [20, 12]}\nsampler: {kind: gibbs, steps: 1}\n"
        "objective: {kind: boltzmann, layer: {steps: 4}}",
    ),
    "lstm": (_WORDS, "{kind: lstm, vocabulary: 40, embedding: 8, units: [12, 10]}"),
    "gru": (_WORDS, "{kind: gru, vocabulary: 40, embedding: 8, units: [12]}"),
    "pixelcnn": (_GREY, "{kind: pixelcnn, levels: 4, filters: 8, blocks: 2}"),
    "pixelcnn_mixture": (
        _GREY, "{kind: pixelcnn_mixture, levels: 4, filters: 4, mixtures: 3, hierarchies: 2, dropout: 0.3}",
    ),
    "rectangle": (_LAND, "{kind: rectangle}"),
    "mixture": (_LAND, "{kind: mixture}"),
}  # fmt: skip
KINDS = {
    kind: f"name: {kind}\ndata: {data}\nmodel: {model}\n{_COMMON}" for kind, (data, model) in _KINDS.items()
}


def recipes(folder: Path) -> None:
    """Write recipes of few words into a folder."""
    words = _TEXT.split()
    made = [
        {"title": f"{words[i % 18]} {words[(3 * i) % 18]}",
         "directions": [" ".join(words[(i * k) % 18] for k in range(1, 4 + i % 9)) + "."]}
        for i in range(160)
    ]  # fmt: skip
    (folder / "recipes.json").write_text(json.dumps(made))


def plan(kind: str, *sets: str, run_id: str | None = None) -> Plan:
    """The plan of a kind's small job."""
    root = [f"data.root={os.environ[RECIPES]}"] if kind in ("lstm", "gru") else []
    return jobs.plan(KINDS[kind], *root, *sets, run_id=run_id)


def train(first: Plan, *, storage: Store) -> Outcome:
    """Train every kind under the strategy of `first`, which is one of them; alone also in two lives.

    The second life of KIND-again goes on from the checkpoint at step 5 of the first.
    """
    composition.devices.configure(threads=first.threads_per_worker, devices=first.devices_per_worker)
    composition.devices.configure = lambda **settings: None  # TensorFlow's devices start but once
    strategy = composition.make(first.spec.strategy.kind, devices=first.devices_per_worker)
    close, strategy.close = strategy.close, lambda: None  # type: ignore[method-assign]
    composition.make = lambda *names, **options: strategy  # type: ignore[assignment]
    node = first.spec.strategy.model_dump(mode="json")
    sets = [
        f"strategy={json.dumps({name: node[name] for name in ('kind', 'workers', 'devices_per_worker')})}"
    ]
    for kind in KINDS:
        outcome = composition.main(plan(kind, *sets), storage=storage)
        if first.spec.strategy.kind == "single":
            for steps in (5, STEPS):
                lives = [*sets, f"train.duration={{steps: {steps}}}"]
                composition.main(plan(kind, *lives, run_id=f"{kind}-again"), storage=storage)
    close()
    return outcome
