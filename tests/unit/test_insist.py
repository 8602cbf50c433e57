"""Training goes on while storage fails, for as long as the job allows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lehr.errors import CheckpointError
from lehr.worker.life import insist


def clock(time_s: float) -> Any:
    return SimpleNamespace(now=lambda: time_s)


def saver(**changes: Any) -> Any:
    return SimpleNamespace(
        **({"fenced": False, "failed_since": None, "committed": 4, "attempt": 1} | changes)
    )


def test_all_is_well_without_a_failure() -> None:
    insist(saver(patience=clock(1e9)), minutes=0.0, where="run")


def test_a_failure_is_borne_for_so_many_minutes() -> None:
    failing = saver(failed_since=100.0, patience=clock(100.0 + 29 * 60))
    insist(failing, minutes=30.0, where="run")
    failing.patience = clock(100.0 + 30 * 60)
    with pytest.raises(CheckpointError, match="the last one is of step 4"):
        insist(failing, minutes=30.0, where="run")


def test_an_attempt_that_was_overtaken_ends() -> None:
    with pytest.raises(CheckpointError, match="attempt 1 is over"):
        insist(saver(fenced=True, patience=clock(0.0)), minutes=30.0, where="run")
