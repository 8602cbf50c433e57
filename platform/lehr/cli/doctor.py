"""`lehr doctor`: what is here and what is missing, a line each."""

from __future__ import annotations

from typing import Annotated

import typer


def doctor(
    storage: Annotated[
        str, typer.Option(metavar="URL", envvar="LEHR_STORAGE", help="Storage to try: a folder or a URL.")
    ] = "runs",
) -> None:
    """Say what this machine has and lacks, and what to do.

    Exit code 1 when something that `make run` needs is missing.
    """
    from lehr.doctor import examine

    findings = examine(storage)
    for finding in findings:
        advice = f"  -> {finding.do}" if finding.do else ""
        typer.echo(f"{finding.state:<9} {finding.subject:<11} {finding.what}{advice}")
    missing = [finding.subject for finding in findings if finding.state == "missing"]
    if missing:
        typer.echo(f"missing for `make run`: {', '.join(missing)}")
        raise typer.Exit(1)
    typer.echo("everything that `make run` needs is here")
