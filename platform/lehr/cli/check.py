"""`lehr check`, `lehr plan`, `lehr schema`: everything that can be said of a job without starting it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lehr.plan import Plan

File = Annotated[str, typer.Argument(metavar="FILE", help="The job: a YAML file, or a URL of one.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key; the value is YAML. May be repeated."),
]


def check(file: File, sets: Set = None) -> None:
    """Check a job file, and say every mistake in it."""
    from lehr import plan as plans
    from lehr import spec

    plan = plans.make(spec.load(file, sets or ()))
    _warn(plan)
    replicas = f"{plan.replicas} replica{'s' if plan.replicas > 1 else ''}"
    steps = f"{plan.steps:,} steps of {plan.global_batch:,} examples"
    typer.echo(f"{file}: good. {plan.spec.name}: {plan.spec.strategy.kind}, {replicas}, {steps}")


def plan(file: File, sets: Set = None) -> None:
    """Show a job with every number worked out: batches, steps, cadences, sizes."""
    from lehr import plan as plans
    from lehr import spec
    from lehr.cli.table import show

    made = plans.make(spec.load(file, sets or ()))
    _warn(made)
    show(made)


def _warn(plan: Plan) -> None:
    for warning in plan.warnings():
        typer.echo(f"warning: {warning}", err=True)


def schema() -> None:
    """Print the JSON Schema of job files, for editors."""
    import json

    from lehr.spec import schema as schemas

    typer.echo(json.dumps(schemas.document(), indent=2))
