"""`lehr host`: Ray on this host, which leaves properly when the host is taken away."""

from __future__ import annotations

from typing import Annotated

import typer

Head = Annotated[bool, typer.Option("--head", help="Be the cluster's head.")]
Address = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="Join the cluster of this head, at port 6379 mostly.")
]
Notice = Annotated[
    float, typer.Option(metavar="SECONDS", min=0.0, help="Time between SIGTERM and the end of this host.")
]
Watch = Annotated[
    str | None, typer.Option(metavar="CLOUD", help="Ask aws or gcp whether it takes this spot machine away.")
]
Words = Annotated[list[str] | None, typer.Argument(metavar="[-- WORDS]", help="More words for `ray start`.")]


def host(
    words: Words = None,
    address: Address = None,
    head: Head = False,
    notice: Notice = 30.0,
    watch: Watch = None,
) -> None:
    """Run Ray on this host until a signal ends it.

    SIGTERM, SIGINT or a cloud's notice: runs with workers here finish their step, make a checkpoint and go
    on elsewhere; then Ray ends, with exit code 0. A second signal ends it at once.
    """
    from lehr.errors import UserError, letter
    from lehr.launch import spot
    from lehr.launch.host import Agent

    if head == (address is not None):
        raise UserError(
            letter(
                "lehr host", "came with neither --head nor --address, or with both", accepted="one of them"
            )
        )
    if watch is not None and watch not in spot.CLOUDS:
        raise UserError(letter("--watch", f"came {watch!r}", accepted=" or ".join(spot.CLOUDS)))
    first = ["--head"] if head else [f"--address={address}"]
    agent = Agent(
        [*first, "--disable-usage-stats", *(words or [])],
        notice_s=notice,
        say=lambda text: typer.echo(f"lehr: {text}", err=True),
        cloud=spot.CLOUDS[watch] if watch else None,
    )
    raise typer.Exit(agent.run())
