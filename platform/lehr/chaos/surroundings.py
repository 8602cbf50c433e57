"""What workers of a disturbed run find in their environment: the board of its faults, and W&B's address."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence

from lehr.chaos import gate
from lehr.chaos.board import VARIABLE, Board
from lehr.chaos.faults import Fault, TrackerDown
from lehr.errors import UserError, letter
from lehr.launch.rendezvous import LOOPBACK
from lehr.plan import Plan
from lehr.tracking import wandb

TRACKER = "https://api.wandb.ai"  # where W&B is, unless WANDB_BASE_URL says otherwise


@contextlib.contextmanager
def surrounded(board: Board, api_key: str | None) -> Iterator[None]:
    """The environment that workers of the disturbed run inherit."""
    with contextlib.ExitStack() as stack:
        variables = {VARIABLE: str(board.folder)}
        for index, fault in enumerate(board.faults):
            if isinstance(fault, TrackerDown):
                variables["WANDB_BASE_URL"] = stack.enter_context(_tracker(board, index, fault))
                variables["WANDB_API_KEY"] = api_key or "0" * 40
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


def _tracker(board: Board, index: int, fault: TrackerDown) -> contextlib.AbstractContextManager[str]:
    """A URL at which W&B is down as the fault says."""
    if fault.whole:
        return nobody()

    def closed() -> bool:
        down = board.left_s(index, fault.duration_s) > 0
        if down:
            board.note(index)
        return down

    return gate.before(os.environ.get("WANDB_BASE_URL", TRACKER), closed)


@contextlib.contextmanager
def nobody() -> Iterator[str]:
    """A URL of this machine at which every connection is refused, held so that nobody takes it."""
    with socket.socket() as held:
        held.bind((LOOPBACK, 0))
        yield f"http://{LOOPBACK}:{held.getsockname()[1]}"


def api_key(plan: Plan, faults: Sequence[Fault]) -> str | None:
    """The key for W&B, where a fault needs one: it is looked up before W&B's address is another.

    Raises:
        UserError: there is none.
    """
    node = plan.spec.tracking.wandb
    if node is None or not any(isinstance(fault, TrackerDown) and not fault.whole for fault in faults):
        return None
    found = wandb.key(node)
    if found is None:
        came = "W&B is to be down for a time only, and there is no key for it"
        do = "wandb login, or set WANDB_API_KEY; `--wandb down` alone needs neither"
        raise UserError(letter(TrackerDown.OPTION, came, do=do))
    return found
