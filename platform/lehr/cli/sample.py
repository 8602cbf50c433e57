"""`lehr sample`: new samples from a run's checkpoint, and the run's curves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lehr.cli.runs import Name, Storage

if TYPE_CHECKING:
    from lehr.checkpoint import Manifest
    from lehr.cli.stored import Run
    from lehr.plan import Plan
    from lehr.samples import Meta
    from lehr.store import Store

Count = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="How many samples; default 64, of texts 4.")
]
Steps = Annotated[
    int | None, typer.Option(metavar="N", min=1, max=1 << 20, help="Steps of each chain; default 1000.")
]
Temperature = Annotated[
    float | None,
    typer.Option(metavar="T", min=0.0, help="Below 1: likelier; 0: the likeliest. Default: the job's."),
]
TopK = Annotated[
    int | None, typer.Option("--top-k", metavar="K", min=1, help="Words to draw from; default: all.")
]
Prompt = Annotated[str | None, typer.Option(metavar="TEXT", help="How each text begins.")]
Length = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Most words of a text; default: the job's.")
]
Step = Annotated[str, typer.Option(metavar="S|latest", help="Of which checkpoint.")]
Seed = Annotated[int | None, typer.Option(metavar="N", min=0, help="Of the samples; default: the job's.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Another sampler.step_size, noise or gradient_clip."),
]
CURVES = "figures/curves.png"
LOG = "logs/sample.log"
MANY, FEW, STEPS = 64, 4, 1000  # samples, texts, steps of a chain, where nobody says


def sample(
    run: Name, count: Count = None, steps: Steps = None, temperature: Temperature = None, top_k: TopK = None,
    prompt: Prompt = None, length: Length = None, step: Step = "latest", seed: Seed = None,
    sets: Set = None, storage: Storage = "runs",
) -> None:  # fmt: skip
    """Draw samples from a run's checkpoint, and draw the run's curves.

    The same seed gives the same draws at every checkpoint, so that two can be compared: of chains their
    starts and noise. Writes below the run's samples/ and figures/; a set that is there stays.
    """
    from lehr.cli import chosen, stored

    found = stored.find(run, storage)
    stored.refuse_sweep(found)
    wanted = chosen.step(step)
    plan = _changed(chosen.plan(found), sets or ())
    drawn = _curves(found)
    _refuse_without_sampler(plan, found, drawn)
    options = {"steps": steps, "temperature": temperature, "top_k": top_k, "prompt": prompt, "length": length}
    asked = {"count": count, "seed": seed, **_taken(plan, options)}
    manifest = chosen.checkpoint(found, wanted)
    typer.echo(f"{manifest.name} of run {found.name}: {_told(plan, asked)}")
    with chosen.quiet(found.folder, LOG):
        made = _draw(found.folder, plan, manifest, asked)
    for text in made.texts:
        typer.echo(text)
    typer.echo("\n".join(f"  {found.folder.url}/{key}" for key in [*made.keys, *drawn]))


def curves(run: Name, storage: Storage = "runs") -> None:
    """Draw a run's loss and metrics by step, below its figures/."""
    from lehr.cli import stored

    found = stored.find(run, storage)
    stored.refuse_sweep(found)
    drawn = "\n".join(f"{found.folder.url}/{key}" for key in _curves(found))
    typer.echo(drawn or f"run {found.name} has no metrics yet")


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

    if not plan.spec.draws:
        came = f"{run.name} trains a {plan.spec.model.kind}, and this kind of model has no sampler"
        look = f"look at its curves: {run.folder.url}/{drawn[0]}" if drawn else f"lehr show {run.name}"
        raise UserError(letter("RUN", came, accepted="a run of a model that has one, such as ebm", do=look))


def _taken(plan: Plan, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that the kind of model takes; another one is refused, and what nobody says is filled in."""
    from lehr.errors import UserError, letter

    model = plan.spec.model
    for name, value in options.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(letter(f"--{name}", f"{value} is no number to divide by", accepted="0 or more"))
        if value is not None and name not in model.settings:
            known = [f"--{one.replace('_', '-')}" for one in ("count", *model.settings, "seed")]
            came = f"samples of model {model.kind} have no {name.replace('_', ' ')}"
            raise UserError(letter(f"--{name.replace('_', '-')}", came, accepted=", ".join(known)))
    return {name: options[name] for name in model.settings}


def _told(plan: Plan, asked: Mapping[str, Any]) -> str:
    """What is drawn, in words."""
    steps, count = asked.get("steps"), asked["count"]
    if "steps" in plan.spec.model.settings:
        return f"{count or MANY} chains of {steps or STEPS:,} steps"
    named = [
        f"{name.replace('_', ' ')} {value}"
        for name, value in asked.items()
        if name != "count" and value is not None
    ]
    return ", ".join([f"{count or _many(plan)} samples", *named])


def _many(plan: Plan) -> int:
    return FEW if "prompt" in plan.spec.model.settings else MANY


@dataclasses.dataclass(frozen=True)
class _Made:
    """Texts to show, and keys of the pictures."""

    texts: list[str]
    keys: list[str]


def _draw(folder: Store, plan: Plan, manifest: Manifest, asked: Mapping[str, Any]) -> _Made:
    from lehr import checkpoint, samples
    from lehr.loop.optimizer import averaged
    from lehr.worker import sampling

    state = checkpoint.load(folder, manifest, first_slot=0, slots=0)
    weights = averaged(state.weights, state.optimizer)
    drawer = sampling.drawer(plan, sampling.restored(plan, weights), _assets(folder, sampling.ASSETS))
    defaults = {"count": _many(plan)} | ({"steps": STEPS} if "steps" in asked else {})
    wanted = sampling.Wanted.of(
        plan, **{**asked, **{n: asked.get(n) or value for n, value in defaults.items()}}
    )
    drawn = drawer.draw(wanted)
    settings = wanted.settings(plan)
    named = {name: value for name, value in settings.items() if name != "prompt" and value is not None}
    place = samples.asked_for(manifest.step, count=wanted.count, settings=named, seed=asked["seed"])
    meta = _meta(folder, plan, manifest, (wanted.seed, settings))
    place = samples.write_new(folder, place, drawn, meta)
    return _Made(list(drawn.texts.values()), [f"{place}/{name}.png" for name in drawn.pictures])


def _assets(folder: Store, where: str) -> dict[str, bytes]:
    """What the run's data left for samples, by name."""
    return {key.partition("/")[2]: folder.read(key) for key in folder.list(where)}


def _meta(folder: Store, plan: Plan, manifest: Manifest, draw: tuple[int, Mapping[str, Any]]) -> Meta:
    from lehr.cli import chosen
    from lehr.samples import Meta

    seed, settings = draw
    return Meta.of(
        plan, step=manifest.step, attempt=manifest.attempt, seed=seed, settings=settings,
        checkpoint=chosen.named(folder, manifest),
    )  # fmt: skip


def _curves(run: Run) -> list[str]:
    """Draw them, if there are metrics; the key of the picture."""
    from lehr import figures, journal

    entries = [entry for entry in journal.read(run.folder) if entry["type"] == "metrics"]
    if not entries:
        return []
    run.folder.write(CURVES, figures.curves(entries, title=run.name))
    return [CURVES]
