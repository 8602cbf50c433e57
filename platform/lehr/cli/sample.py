"""`lehr sample`: new samples from a run's checkpoint, and the run's curves."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from lehr.cli.runs import Name, Storage

if TYPE_CHECKING:
    from lehr.checkpoint import Manifest
    from lehr.cli.stored import Run
    from lehr.plan import Plan
    from lehr.samples import Meta
    from lehr.store import Store

Count = Annotated[int, typer.Option(metavar="N", min=1, help="How many chains, and so images.")]
Steps = Annotated[int, typer.Option(metavar="N", min=1, max=1 << 20, help="Steps of each chain.")]
Step = Annotated[str, typer.Option(metavar="S|latest", help="Of which checkpoint.")]
Seed = Annotated[int | None, typer.Option(metavar="N", min=0, help="Of the chains; default: the job's.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Another sampler.step_size, noise or gradient_clip."),
]
CURVES = "figures/curves.png"
LOG = "logs/sample.log"


def sample(
    run: Name, count: Count = 64, steps: Steps = 1000, step: Step = "latest", seed: Seed = None,
    sets: Set = None, storage: Storage = "runs",
) -> None:  # fmt: skip
    """Draw samples from a run's checkpoint, and draw the run's curves.

    The same seed gives the same chains' starts and noise at every checkpoint, so that two can be compared.
    Writes below the run's samples/ and figures/; a set that is there stays.
    """
    from lehr.cli import stored

    found = stored.find(run, storage)
    stored.refuse_sweep(found)
    wanted = _step(step)
    plan = _changed(_plan(found), sets or ())
    drawn = _curves(found)
    _refuse_without_sampler(plan, found, drawn)
    manifest = _checkpoint(found, wanted)
    typer.echo(f"{manifest.name} of run {found.name}: {count} chains of {steps:,} steps")
    with _quiet(found.folder):
        pictures = _draw(found.folder, plan, manifest, (count, steps, seed))
    typer.echo("\n".join(f"  {found.folder.url}/{key}" for key in [*pictures, *drawn]))


def curves(run: Name, storage: Storage = "runs") -> None:
    """Draw a run's loss and metrics by step, below its figures/."""
    from lehr.cli import stored

    found = stored.find(run, storage)
    stored.refuse_sweep(found)
    drawn = "\n".join(f"{found.folder.url}/{key}" for key in _curves(found))
    typer.echo(drawn or f"run {found.name} has no metrics yet")


def _step(text: str) -> int | None:
    from lehr.errors import UserError, letter

    if text == "latest":
        return None
    if not text.isdecimal():
        raise UserError(letter("--step", f"{text!r} is not a step", accepted="a whole number, or latest"))
    return int(text)


def _plan(run: Run) -> Plan:
    from lehr import plan as plans
    from lehr.errors import UserError, letter

    if not run.plan:
        came = f"{run.folder.url}/plan.json is missing or cannot be read, so the model is not known"
        raise UserError(letter("RUN", came, do="restore the file, or start the same job and --run id again"))
    return plans.restore(run.plan)


def _changed(plan: Plan, sets: Sequence[str]) -> Plan:
    """The plan with another sampler's settings: those that samples depend on, and no others."""
    from lehr import spec
    from lehr.errors import UserError, letter
    from lehr.samples import DECIDING

    accepted = [f"sampler.{name}" for name in DECIDING]
    for text in sets:
        key = text.partition("=")[0].strip()
        if key not in accepted:
            came = f"{spec.secrets.show(key)} has no effect on samples of a trained model"
            raise UserError(letter("--set", came, accepted=", ".join(accepted)))
    if not sets or plan.spec.sampler is None:
        return plan
    return dataclasses.replace(plan, spec=spec.parse(spec.text(plan.spec), source="spec.yaml", sets=sets))


def _refuse_without_sampler(plan: Plan, run: Run, drawn: Sequence[str]) -> None:
    from lehr.errors import UserError, letter

    if plan.spec.sampler is None:
        came = f"{run.name} trains a {plan.spec.model.kind}, and this kind of model has no sampler"
        look = f"look at its curves: {run.folder.url}/{drawn[0]}" if drawn else f"lehr show {run.name}"
        raise UserError(letter("RUN", came, accepted="a run of a model that has one, such as ebm", do=look))


def _checkpoint(run: Run, step: int | None) -> Manifest:
    """The newest good checkpoint, or that of `step`; what was passed over is said."""
    from lehr import checkpoint
    from lehr.errors import UserError, letter

    found = checkpoint.newest(run.folder, step=step)
    for name, reason in found.skipped:
        typer.echo(f"skipped {name}: {reason}", err=True)
    if found.manifest is None:
        came = f"run {run.name} has no checkpoint yet"
        raise UserError(letter("RUN", came, do=f"wait for its first: lehr checkpoints {run.name}"))
    return found.manifest


@contextmanager
def _quiet(folder: Store) -> Iterator[None]:
    """What TensorFlow says goes to a log; the user's own modules are found as workers find them."""
    from lehr import logs

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    with logs.into(folder, LOG):
        yield


def _draw(folder: Store, plan: Plan, manifest: Manifest, wanted: tuple[int, int, int | None]) -> list[str]:
    """Keys of the pictures."""
    from lehr import checkpoint, figures, samples
    from lehr.worker import sampling

    count, steps, seed = wanted
    weights = checkpoint.load(folder, manifest, first_slot=0, slots=0).weights
    sampler = sampling.Sampler(plan, sampling.restored(plan, weights))
    drawn = sampler.draw(count=count, steps=steps, seed=seed)
    pictures = figures.pictures(drawn.images, drawn.frames, drawn.frame_steps, drawn.energies)
    place = samples.asked_for(manifest.step, count=count, steps=steps, seed=seed)
    place = samples.write_new(folder, place, drawn, pictures, _meta(folder, plan, manifest, seed))
    return [f"{place}/{name}.png" for name in pictures]


def _meta(folder: Store, plan: Plan, manifest: Manifest, seed: int | None) -> Meta:
    from lehr.checkpoint.manifest import key
    from lehr.samples import Meta

    sha256 = hashlib.sha256(folder.read(key(manifest.name))).hexdigest()
    source = {"name": manifest.name, "manifest_sha256": sha256}
    return Meta.of(plan, step=manifest.step, attempt=manifest.attempt, seed=seed, checkpoint=source)


def _curves(run: Run) -> list[str]:
    """Draw them, if there are metrics; the key of the picture."""
    from lehr import figures, journal

    entries = [entry for entry in journal.read(run.folder) if entry["type"] == "metrics"]
    if not entries:
        return []
    run.folder.write(CURVES, figures.curves(entries, title=run.name))
    return [CURVES]
