"""Samples by Langevin chains from noise, addressed by (seed, chain) alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lehr import figures
from lehr.dynamics import diagnostics
from lehr.dynamics import samples as dynamics
from lehr.plan import Plan
from lehr.samples import DECIDING, Drawn
from lehr.seeds import Purpose
from lehr.worker import points
from lehr.worker.build import xla
from lehr.worker.sampling import Wanted


class Chains:
    """Draws from a model whose call gives a score f = -E; compiles once for each seed, count and number of
    steps.

    What it draws has the arrays `images` float32 [count, height, width, channels] in [-1, 1], the chains'
    ends; `frames` float32 [frames, count, height, width, channels], along each chain; and `energies` float32
    [steps, count], of what each step descended from. Its facts say after how many steps the frames are. Where
    the data is points in the plane, `images` is called `points`, and pictures and facts are those of
    `points.told`.

    Args:
        plan: of the run.
        model: its network, built.
        assets: not used.
    """

    def __init__(self, plan: Plan, model: Any, assets: Mapping[str, bytes]) -> None:
        self._plan, self._model = plan, model
        self._by_seed: dict[int, dynamics.Sampler] = {}

    def draw(self, wanted: Wanted) -> Drawn:
        """`wanted.count` chains of `wanted.steps` steps."""
        marks = dynamics.marks(wanted.steps)
        drawn = self._sampler(wanted.seed).draw(wanted.count, at=marks)
        images, frames, energies = drawn.images[-1], drawn.images, drawn.energy
        node, flat = self._plan.spec.sampler, images.ndim == 2
        pictures, told = (
            self._flat(drawn) if flat else (figures.pictures(images, frames, marks, energies), {})
        )
        return Drawn(
            count=wanted.count,
            arrays={"points" if flat else "images": images, "frames": frames, "energies": energies},
            pictures=pictures,
            facts={
                "sampler": {name: getattr(node, name) for name in ("kind", *DECIDING)},
                "steps": wanted.steps,
                "frame_steps": list(marks),
                "purposes": {"start": Purpose.SAMPLE_START.name, "noise": Purpose.SAMPLE_NOISE.name},
                "mean_energy": [float(one.mean()) for one in energies[[0, -1]]],
                **diagnostics.of_energies(energies),
                **told,
            },
        )

    def _flat(self, drawn: Any) -> tuple[dict[str, bytes], dict[str, Any]]:
        """Pictures and facts of points in the plane."""
        pictures, told = points.told(self._plan, drawn.images[-1], points.of_energy(self._model))
        return pictures | {"energy": figures.energies(drawn.energy)}, told

    def _sampler(self, seed: int) -> dynamics.Sampler:
        if seed not in self._by_seed:
            node, shape = self._plan.spec.sampler, self._plan.spec.data.shape
            compiled = xla(self._plan)
            self._by_seed[seed] = dynamics.Sampler(self._model, node, shape, seed=seed, xla=compiled)
        return self._by_seed[seed]
