"""What a set of samples is: pictures, arrays, and what is needed to draw the same again.

samples/step-00001000/                        made during training, at its cadence
samples/step-00001000-count-64-steps-500/     made by `lehr sample`
  grid.png  strip.png  energy.png             what `figures.pictures` drew
  images.npy  frames.npy  energies.npy        float32, see `Chains`
  meta.json                                   written last: without it the set is not whole

write(run, folder, chains, pictures, meta)    over what an earlier attempt left at that step
write_new(run, folder, ...) -> folder         beside what is there, never over it
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from itertools import chain
from itertools import count as counting
from typing import Any, Protocol

import numpy as np

from lehr.journal import encode
from lehr.plan import Plan
from lehr.seeds import Purpose
from lehr.store import Store

FORMAT = 1
ROOT = "samples"
ARRAYS = ("images", "frames", "energies")
META = "meta.json"
# Of the spec's sampler: the length of training's chains and their buffer do not matter to samples.
DECIDING = ("step_size", "noise", "gradient_clip")


class Chains(Protocol):
    """What was drawn. `images` float32 [count, height, width, channels]: the chains' ends; `frames` float32
    [frames, count, height, width, channels], after `frame_steps` steps; `energies` float32 [steps, count]:
    of what each step descended from."""

    @property
    def images(self) -> np.ndarray: ...
    @property
    def frames(self) -> np.ndarray: ...
    @property
    def frame_steps(self) -> Sequence[int]: ...
    @property
    def energies(self) -> np.ndarray: ...


@dataclass(frozen=True)
class Meta:
    """How a set was made; with the checkpoint's weights it can be made again.

    Args:
        step: the model is that after `step` updates.
        attempt: the life of the run that trained it.
        seed: of the chains' starts and noise; chain i depends on it and on i, not on `step`.
        sampler: of the spec's sampler, the kind and what decides a sample.
        checkpoint: `name` and `manifest_sha256` of the checkpoint that was sampled; {} when the model was
            sampled in training.
        versions: of the packages that decide the numbers.
        spec_hash: of the job that trained the model.
        range: what is black and what is white in the images.
    """

    step: int
    attempt: int
    seed: int
    sampler: Mapping[str, Any]
    checkpoint: Mapping[str, str]
    versions: Mapping[str, str]
    spec_hash: str
    range: tuple[float, float]

    @classmethod
    def of(
        cls, plan: Plan, *, step: int, attempt: int, seed: int | None = None,
        checkpoint: Mapping[str, str] | None = None,
    ) -> Meta:  # fmt: skip
        """Of samples from the plan's model, drawn with its sampler; `seed` is None for the job's own."""
        return cls(
            step=step,
            attempt=attempt,
            seed=plan.spec.train.seed if seed is None else seed,
            sampler={name: getattr(plan.spec.sampler, name) for name in ("kind", *DECIDING)},
            checkpoint=checkpoint or {},
            versions={name: metadata.version(name) for name in ("lehr", "tensorflow", "keras", "numpy")},
            spec_hash=plan.spec_hash,
            range=plan.spec.data.range,
        )

    def document(self, chains: Chains) -> dict[str, Any]:
        """`meta.json`: this, what the arrays say of themselves, and when it was."""
        steps, count = chains.energies.shape
        return {
            "format": FORMAT,
            **asdict(self),
            "count": count,
            "steps": steps,
            "frame_steps": list(chains.frame_steps),
            "purposes": {"start": Purpose.SAMPLE_START.name, "noise": Purpose.SAMPLE_NOISE.name},
            "mean_energy": [encode(float(energies.mean())) for energies in chains.energies[[0, -1]]],
            "time": time.time(),
        }


def at_step(step: int) -> str:
    """The folder of the samples that training makes at `step`."""
    return f"{ROOT}/step-{step:08d}"


def asked_for(step: int, *, count: int, steps: int, seed: int | None = None) -> str:
    """The folder of samples that somebody asked for; `seed` is None for the job's own."""
    chosen = "" if seed is None else f"-seed-{seed}"
    return f"{at_step(step)}-count-{count}-steps-{steps}{chosen}"


def write(run: Store, folder: str, chains: Chains, pictures: Mapping[str, bytes], meta: Meta) -> None:
    """Put a set into `folder` of the run; one that is there is replaced.

    Args:
        run: the run's folder.
        folder: below it, such as `at_step(1000)`.
        chains: what was drawn.
        pictures: PNG bytes by name.
        meta: how it was made.
    """
    run.delete(f"{folder}/{META}")
    for name, data in _files(chains, pictures, meta).items():
        run.write(f"{folder}/{name}", data)


def write_new(run: Store, folder: str, chains: Chains, pictures: Mapping[str, bytes], meta: Meta) -> str:
    """Put a set into `folder` or, when that is taken, `folder`-2, -3 and so on; where it was put."""
    files = _files(chains, pictures, meta)
    first = next(iter(files))
    names = chain([folder], (f"{folder}-{number}" for number in counting(2)))
    place = next(name for name in names if run.create(f"{name}/{first}", files[first]))
    for name, data in files.items():
        if name != first:
            run.write(f"{place}/{name}", data)
    return place


def _files(chains: Chains, pictures: Mapping[str, bytes], meta: Meta) -> dict[str, bytes]:
    """All files of a set by name, in the order in which they are written."""
    arrays = {f"{name}.npy": _npy(getattr(chains, name)) for name in ARRAYS}
    images = {f"{name}.png": png for name, png in pictures.items()}
    return arrays | images | {META: json.dumps(meta.document(chains), indent=1).encode()}


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
    return {name: np.load(io.BytesIO(run.read(f"{folder}/{name}.npy"))) for name in ARRAYS}, meta
