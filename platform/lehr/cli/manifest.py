"""`lehr manifest`: a job as objects for Kubernetes and its KubeRay operator."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from lehr.cli.run import File, RunId, Set

if TYPE_CHECKING:
    from lehr.launch.pods import Wish
    from lehr.plan import Plan

Image = Annotated[
    str | None, typer.Option(metavar="IMAGE", envvar="LEHR_IMAGE", help="Default: lehr, or lehr:gpu.")
]
Namespace = Annotated[str | None, typer.Option(metavar="NS", help="Default: kubectl's.")]
Account = Annotated[
    str | None, typer.Option(metavar="NAME", help="The pods' service account: how they reach storage.")
]
Token = Annotated[str, typer.Option(metavar="NAME", help="Secret with the token under the key auth_token.")]
Notice = Annotated[int, typer.Option(metavar="S", min=0, help="Seconds in which a worker leaves its pod.")]
Secrets = Annotated[
    list[str] | None,
    typer.Option(
        "--secret", metavar="NAME=SECRET/KEY", help="Where a secret is; default: lehr-secrets/NAME."
    ),
]
Claim = Annotated[
    str | None,
    typer.Option(metavar="CLAIM[:PATH]", help="A volume that all pods mount; holds local storage."),
]
Labels = Annotated[
    list[str] | None, typer.Option("--node-label", metavar="KEY=VALUE", help="The workers' machines have it.")
]
PerPod = Annotated[int, typer.Option(metavar="N", min=1, help="Workers in one pod.")]


def manifest(
    file: File,
    sets: Set = None,
    run_id: RunId = None,
    image: Image = None,
    namespace: Namespace = None,
    service_account: Account = None,
    token_secret: Token = "lehr-token",
    notice: Notice = 90,
    secrets: Secrets = None,
    volume_claim: Claim = None,
    node_labels: Labels = None,
    workers_per_pod: PerPod = 1,
) -> None:
    """Print a job as a KubeRay RayJob: `lehr manifest FILE | kubectl apply -f -`.

    Secrets are named, never written. A RayJob that has ended stays as it is: deleted and applied again, it
    goes on from the last checkpoint.
    """
    from lehr import plan as plans
    from lehr import spec as specs
    from lehr.cli import sweeping
    from lehr.launch import manifest as manifests
    from lehr.launch import volumes
    from lehr.launch.pods import Wish
    from lehr.spec import writing

    job = specs.load(file, sets or ())
    sweeping.refuse_search(job, file, command="manifest")
    plan = plans.make(job, run_id=run_id)
    wish = Wish(
        image=image,
        namespace=_named("--namespace", namespace),
        service_account=_named("--service-account", service_account),
        token_secret=_named("--token-secret", token_secret) or "lehr-token",
        notice_s=notice,
        secrets=volumes.chosen(secrets or []),
        volume=volumes.volume(volume_claim) if volume_claim is not None else None,
        node_labels=dict(_label(text) for text in node_labels or ()),
        workers_per_pod=workers_per_pod,
    )
    text = writing.documents(manifests.documents(plan, wish))
    for note in _notes(plan, wish):
        typer.echo(f"note: {note}", err=True)
    typer.echo(text, nl=False)


def _notes(plan: Plan, wish: Wish) -> list[str]:
    """What was decided for want of a word in the job file."""
    from lehr.launch import pods

    strategy, notes = plan.spec.strategy, []
    if strategy.gpus == "auto" and not pods.graphics(plan):
        notes.append("strategy.gpus: auto asks for none here; --set strategy.gpus=true asks for one a device")
    if strategy.memory_gib_per_worker is None:
        notes.append(f"strategy.memory_gib_per_worker is not set: {pods.DEFAULT_GIB:g} GiB a worker")
    if strategy.accelerator is not None and not wish.node_labels:
        notes.append(
            f"machines need the label {pods.ACCELERATOR}={strategy.accelerator}; --node-label names another"
        )
    return notes


def _named(option: str, name: str | None) -> str | None:
    """A name that Kubernetes takes.

    Raises:
        UserError: it does not.
    """
    from lehr.errors import UserError, letter

    if name is not None and re.fullmatch(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?", name) is None:
        came = f"{name[:60]!r} is no name that Kubernetes takes"
        raise UserError(letter(option, came, accepted="small letters, digits, hyphens and dots"))
    return name


def _label(text: str) -> tuple[str, str]:
    from lehr.errors import UserError, letter

    name, mark, value = text.partition("=")
    word = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
    if not mark or re.fullmatch(rf"(?:[a-z0-9.-]+/)?{word}={word}", text) is None:
        raise UserError(letter("--node-label", f"{text[:60]!r} is no label", accepted="KEY=VALUE"))
    return name, value
