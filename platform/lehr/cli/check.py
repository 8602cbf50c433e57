"""`lehr check`, `lehr plan`, `lehr schema`: everything that can be said of a job without starting it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lehr.cli.asked import Asked
    from lehr.plan import Plan
    from lehr.spec import Spec

File = Annotated[str, typer.Argument(metavar="FILE", help="The job: a YAML file, or a URL of one.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key; the value is YAML. May be repeated."),
]


def check(file: File, sets: Set = None) -> None:
    """Check a job file, and say every mistake in it."""
    from lehr import plan as plans
    from lehr import spec

    job = spec.load(file, sets or ())
    if job.search is not None:
        _check_sweep(job, file)
        return
    plan = plans.make(job)
    _warn(plan)
    replicas = f"{plan.replicas} replica{'s' if plan.replicas > 1 else ''}"
    steps = f"{plan.steps:,} steps of {plan.global_batch:,} examples"
    typer.echo(f"{file}: good. {plan.spec.name}: {plan.spec.strategy.kind}, {replicas}, {steps}")


def plan(
    file: File,
    sets: Set = None,
    replicas: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="Forecast a step on so many replicas each, as 1,8,64,512."),
    ] = None,
    measured: Annotated[
        list[str] | None,
        typer.Option(metavar="RUN", help="A run whose journal tells what steps take. May be repeated."),
    ] = None,
    step_s: Annotated[
        float | None, typer.Option("--step-s", metavar="S", help="What a step takes, instead of a run.")
    ] = None,
    at: Annotated[
        int | None, typer.Option(metavar="N", help="Replicas that took --step-s; default: as in FILE.")
    ] = None,
    link_gbits: Annotated[
        float | None, typer.Option("--link-gbits", metavar="G", help="Gbit/s between hosts.")
    ] = None,
    latency_us: Annotated[
        float | None,
        typer.Option("--latency-us", metavar="L", help="Microseconds of a message between hosts."),
    ] = None,
    per_host: Annotated[
        int | None, typer.Option("--per-host", metavar="N", help="Replicas of a host, which sum first.")
    ] = None,
    intra_gbits: Annotated[
        float | None, typer.Option("--intra-gbits", metavar="G", help="Gbit/s between those.")
    ] = None,
    intra_latency_us: Annotated[
        float | None, typer.Option("--intra-latency-us", metavar="L", help="Microseconds of their messages.")
    ] = None,
    parameters: Annotated[
        int | None, typer.Option(metavar="N", help="Parameters of a model whose kind cannot tell.")
    ] = None,
    weak: Annotated[
        bool, typer.Option("--weak", help="Keep the batch of a replica, not that of all together.")
    ] = False,
    storage: Annotated[
        str, typer.Option(metavar="URL", envvar="LEHR_STORAGE", help="Where the measured runs are.")
    ] = "runs",
) -> None:
    """Show a job with every number worked out: batches, steps, cadences, sizes.

    With --replicas, show what its step would take on so many replicas, from steps that were measured. Of a
    sweep, show what it costs; with --measured or --step-s, in hours, too.
    """
    from lehr import plan as plans
    from lehr import spec
    from lehr.cli.asked import Asked

    asked = Asked(
        replicas, tuple(measured or ()), step_s, at, link_gbits, latency_us, per_host, intra_gbits,
        intra_latency_us, parameters, weak, storage,
    )  # fmt: skip
    job = spec.load(file, sets or ())
    if job.search is not None:
        _price(job, asked)
        return
    made = plans.make(job)
    if asked.wanted:
        _forecast(made, asked)
        return
    from lehr.cli.table import show

    _warn(made)
    show(made)


def _check_sweep(job: Spec, file: str) -> None:
    from lehr.cli import pricing
    from lehr.sweep import program

    made = program.make(job)
    _warn(made.base())
    typer.echo(pricing.good(made, file))


def _price(job: Spec, asked: Asked) -> None:
    from lehr.cli import pricing
    from lehr.sweep import program

    made = program.make(job)
    _warn(made.base())
    pricing.show(made, asked)


def _forecast(plan: Plan, asked: Asked) -> None:
    from lehr.cli import forecast

    typer.echo("\n".join(forecast.lines(forecast.make(plan, asked))))


def _warn(plan: Plan) -> None:
    for warning in plan.warnings():
        typer.echo(f"warning: {warning}", err=True)


def schema() -> None:
    """Print the JSON Schema of job files, for editors."""
    import json

    from lehr.spec import schema as schemas

    typer.echo(json.dumps(schemas.document(), indent=2))
