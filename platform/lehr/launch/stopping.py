"""Asking a run to stop: a key in its store, which rank 0 looks for."""

from __future__ import annotations

from lehr.store import Store

KEY = "control/stop"


def ask(run: Store) -> None:
    """Ask the run in this folder to finish its step, make a checkpoint and end."""
    run.write(KEY, b"asked\n")


def clear(run: Store) -> None:
    """Forget that a run was asked to stop: it is being started."""
    run.delete(KEY)
