"""`lehr evaluate`: numbers for a run's checkpoint, into the run's journal."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lehr.cli.runs import Name, Storage

if TYPE_CHECKING:
    from lehr.cli.stored import Run
    from lehr.evaluations.asking import Question, Trained
    from lehr.launch.evaluation import Answer
    from lehr.plan import Plan

Step = Annotated[str, typer.Option(metavar="S|latest", help="Of which checkpoint.")]
Count = Annotated[int, typer.Option(metavar="N", min=4, help="How many samples images are judged by.")]
Metrics = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,...",
        help="validation, fid, kid, precision, recall, ais; default: all that the model can give.",
        show_default=False,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Of each sample's chain; default: the job's.", show_default=False),
]
Temperature = Annotated[
    float | None,
    typer.Option(metavar="T", min=0.0, help="Of samples; default: the job's.", show_default=False),
]
Seed = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, help="Of the samples; default: the job's.", show_default=False),
]
Features = Annotated[
    str | None,
    typer.Option(
        metavar="RUN",
        help="A trained lenet whose features to use; default: one trained here, once, on the same data.",
        show_default=False,
    ),
]
Baselines = Annotated[
    bool, typer.Option("--baselines", help="Measure noise, the untrained model and held-out data, too.")
]
Address = Annotated[
    str | None,
    typer.Option(metavar="URL", help="A Ray cluster to spread it over; default: none.", show_default=False),
]
LOG = "logs/evaluate.log"
SHOWN = 12  # hexadecimal digits of a hash


def evaluate(
    run: Name, step: Step = "latest", count: Count = 1024, metrics: Metrics = None, steps: Steps = None,
    temperature: Temperature = None, seed: Seed = None, features: Features = None,
    baselines: Baselines = False, address: Address = None, storage: Storage = "runs",
) -> None:  # fmt: skip
    """Measure a run's checkpoint: held-out data under its objective, its samples against its data.

    Images are compared by features of our own LeNet, trained on the same data: FID-LeNet, which is not the
    FID of papers. The result is added to the run's journal, and `lehr show` lists it.
    """
    from lehr.cli import chosen, stored
    from lehr.evaluations import asking, records
    from lehr.evaluations.asking import Question
    from lehr.launch import evaluation, taken
    from lehr.store.patient import Patient

    found = stored.find(run, storage)
    stored.refuse_sweep(found)
    wanted, plan = chosen.step(step), chosen.plan(found)
    names = asking.chosen(plan, _split(metrics), given=features is not None)
    settings = asking.settings(plan, {"steps": steps, "temperature": temperature})
    manifest = chosen.checkpoint(found, wanted)
    source = chosen.named(found.folder, manifest)
    typer.echo(f"{manifest.name} of run {found.name}: {', '.join(names)}")
    question = Question(
        subject=taken.trained(found.folder, plan, manifest),
        extractor=None,
        metrics=names,
        count=count,
        seed=plan.spec.train.seed if seed is None else seed,
        settings=settings,
        baselines=baselines,
    )
    evaluation.require(question)
    question = dataclasses.replace(question, extractor=_extractor(plan, names, features, storage))
    answer = _answer(question, found, address)
    facts = evaluation.facts(question, answer)
    typer.echo("\n".join(told(answer.values, facts)))  # before anything that may fail
    patience_s = 60.0 * plan.spec.recovery.max_unsaved_minutes
    key = records.write(Patient(found.folder, patience_s=patience_s), step=manifest.step,
                        attempt=manifest.attempt, checkpoint=source, values=answer.values,
                        facts=facts)  # fmt: skip
    typer.echo(f"  {found.folder.url}/{key}")


def _split(text: str | None) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()] if text is not None else []


def _extractor(plan: Plan, names: tuple[str, ...], features: str | None, storage: str) -> Trained | None:
    """What images are compared by: a run that was named, or our own."""
    from lehr.cli import stored
    from lehr.evaluations import asking
    from lehr.launch import taken

    if not set(names) & set(asking.OF_IMAGES):
        return None
    if features is not None:
        run = stored.find(features, storage)
        return taken.of_run(run.folder, source=run.folder.url)
    if not taken.is_kept(plan):
        typer.echo(
            f"  training a LeNet on {plan.spec.data.kind}, once: its features are what images are compared by"
        )
    return taken.extractor(plan)


def _answer(question: Question, run: Run, address: str | None) -> Answer:
    from lehr.cli import chosen
    from lehr.launch import evaluation

    with chosen.quiet(run.folder, LOG):
        if address is None:
            return evaluation.here(question)
        return evaluation.on_ray(question, run.folder, address=address)


def told(values: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[str]:
    """An evaluation in lines: what was compared, by what, and the numbers."""
    from lehr.cli import columns

    counts, features = facts.get("counts", {}), facts.get("features")
    if counts:
        sets = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        yield f"  images: {sets}"
    if features:
        accuracy = features.get("accuracy")
        right = f", {100 * accuracy:.1f} % right" if isinstance(accuracy, float) else ""
        yield f"  features: {features['dimension']} of our LeNet {features['sha256'][:SHOWN]}{right}"
        yield f"    ({features['source']}); not of Inception, so no numbers of papers"
    yield from columns.aligned([(name, columns.number(value)) for name, value in values.items()], indent="  ")
