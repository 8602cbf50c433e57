"""What a set of samples is: arrays, pictures, texts, and what is needed to draw the same again.

samples/step-00001000/                        made during training, at its cadence
samples/step-00001000-count-64-steps-500/     made by `lehr sample`
  NAME.png  NAME.npy  NAME.txt                whatever the kind of model draws: see `Drawn`
  meta.json                                   written last: without it the set is not whole

write(run, folder, drawn, meta)               over what an earlier attempt left at that step
write_new(run, folder, ...) -> folder         beside what is there, never over it
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from itertools import chain
from itertools import count as counting
from typing import Any

import numpy as np

from lehr.journal import encode
from lehr.plan import Plan
from lehr.store import Store

FORMAT = 2
ROOT = "samples"
META = "meta.json"
_BEFORE = ("images", "frames", "energies")  # the arrays of every set of format 1
# Of the spec's sampler: the length of training's chains and their buffer do not matter to samples.
DECIDING = ("step_size", "noise", "noise_end", "acceptance", "gradient_clip")


@dataclass(frozen=True)
class Drawn:
    """What was drawn.

    Args:
        count: how many samples.
        arrays: by name, with the samples along one axis; each kind of model says which.
        pictures: PNG bytes by name.
        texts: by name.
        facts: JSON values that `meta.json` tells beside how the set was made.
    """

    count: int
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Meta:
    """How a set was made; with the checkpoint's weights it can be made again.

    Args:
        step: the model is that after `step` updates.
        attempt: the life of the run that trained it.
        seed: of every draw; sample i depends on it and on i, not on `step`.
        settings: temperature, prompt and so on, as far as the kind of model has them.
        checkpoint: `name` and `manifest_sha256` of the checkpoint that was sampled; {} when the model was
            sampled in training.
        versions: of the packages that decide the numbers.
        spec_hash: of the job that trained the model.
        range: what is black and what is white in images; None where there are none.
    """

    step: int
    attempt: int
    seed: int
    settings: Mapping[str, Any]
    checkpoint: Mapping[str, str]
    versions: Mapping[str, str]
    spec_hash: str
    range: tuple[float, float] | None

    @classmethod
    def of(
        cls, plan: Plan, *, step: int, attempt: int, seed: int, settings: Mapping[str, Any],
        checkpoint: Mapping[str, str] | None = None,
    ) -> Meta:  # fmt: skip
        """Of samples from the plan's model."""
        return cls(
            step=step,
            attempt=attempt,
            seed=seed,
            settings=settings,
            checkpoint=checkpoint or {},
            versions={name: metadata.version(name) for name in ("lehr", "tensorflow", "keras", "numpy")},
            spec_hash=plan.spec_hash,
            range=getattr(plan.spec.data, "bounds", None),
        )

    def document(self, drawn: Drawn) -> dict[str, Any]:
        """`meta.json`: this, what the samples say of themselves, and when it was."""
        told = asdict(self)
        settings = told.pop("settings")
        facts = {
            "count": drawn.count,
            "arrays": list(drawn.arrays),
            "texts": list(drawn.texts),
            **drawn.facts,
        }
        return {"format": FORMAT, **told, **settings, **encode(facts), "time": time.time()}


def at_step(step: int) -> str:
    """The folder of the samples that training makes at `step`."""
    return f"{ROOT}/step-{step:08d}"


def asked_for(step: int, *, count: int, settings: Mapping[str, Any], seed: int | None = None) -> str:
    """The folder of samples that somebody asked for; `seed` is None for the job's own."""
    named = {"count": count, **settings} | ({} if seed is None else {"seed": seed})
    return "-".join([at_step(step), *(f"{name}-{value:g}" for name, value in named.items())])


def write(run: Store, folder: str, drawn: Drawn, meta: Meta) -> None:
    """Put a set into `folder` of the run; one that is there is replaced.

    Args:
        run: the run's folder.
        folder: below it, such as `at_step(1000)`.
        drawn: what was drawn.
        meta: how it was made.
    """
    run.delete(f"{folder}/{META}")
    for name, data in _files(drawn, meta).items():
        run.write(f"{folder}/{name}", data)


def write_new(run: Store, folder: str, drawn: Drawn, meta: Meta) -> str:
    """Put a set into `folder` or, when that is taken, `folder`-2, -3 and so on; where it was put."""
    files = _files(drawn, meta)
    first = next(iter(files))
    names = chain([folder], (f"{folder}-{number}" for number in counting(2)))
    place = next(name for name in names if run.create(f"{name}/{first}", files[first]))
    for name, data in files.items():
        if name != first:
            run.write(f"{place}/{name}", data)
    return place


def _files(drawn: Drawn, meta: Meta) -> dict[str, bytes]:
    """All files of a set by name, in the order in which they are written."""
    arrays = {f"{name}.npy": _npy(array) for name, array in drawn.arrays.items()}
    images = {f"{name}.png": png for name, png in drawn.pictures.items()}
    texts = {f"{name}.txt": text.encode() for name, text in drawn.texts.items()}
    return arrays | images | texts | {META: json.dumps(meta.document(drawn), indent=1).encode()}


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def read(run: Store, folder: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays by name and `meta.json` of a set.

    Raises:
        KeyMissing: there is no such set, or it is not whole.
    """
    meta = json.loads(run.read(f"{folder}/{META}"))
    names = meta.get("arrays", _BEFORE)
    return {name: np.load(io.BytesIO(run.read(f"{folder}/{name}.npy"))) for name in names}, meta
