"""However a life ends, its last words are said."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lehr.errors import DivergenceError, Superseded
from lehr.loop.step import SIGNALS
from lehr.worker import composition
from lehr.worker.clock import STOP, StopRequest
from lehr.worker.life import Life as Real


class Life:
    """Diverges, and finds at its end that a later attempt has begun."""

    def __init__(self) -> None:
        self.failed: list[BaseException] = []

    def train(self) -> Any:
        raise DivergenceError("nan")

    def turn_back(self, error: DivergenceError) -> None:
        return None

    def end(self, outcome: str, *, message: str) -> Any:
        assert (outcome, message) == ("diverged", "nan")
        raise Superseded("it is over")

    def fail(self, error: BaseException) -> None:
        self.failed.append(error)


def test_an_end_that_fails_is_a_failure() -> None:
    life: Any = Life()
    with pytest.raises(Superseded) as raised:
        composition._live(life)
    assert life.failed == [raised.value]


def test_a_wish_to_stop_that_came_with_the_gradients_ends_a_pause_on_every_rank() -> None:
    life: Any = Real.__new__(Real)
    heard: list[bool] = []
    life._pulse, life._request = None, StopRequest(None)
    life._outage = SimpleNamespace(look=lambda step: heard.append(life._request()))
    life._clock = SimpleNamespace(due=lambda step, signals: None)
    signals = np.zeros(SIGNALS, np.float32)
    life.due(1, signals)
    signals[STOP] = 1
    life.due(2, signals)
    assert heard == [False, True]


@pytest.mark.parametrize(("outcome", "insists"), [("completed", True), ("stopped", True), ("left", False)])
def test_who_leaves_while_the_storage_fails_comes_again(outcome: Any, insists: bool) -> None:
    life: Any = Real.__new__(Real)
    told: list[bool] = []
    life._outage = SimpleNamespace(finish=lambda step, *, insist: told.append(insist))
    life._saver = SimpleNamespace(close=lambda: None)
    life._step, life._report, life._pulse = 7, None, None
    assert life.end(outcome).status == outcome
    assert told == [insists]
