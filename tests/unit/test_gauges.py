"""What each worker's gauges are set to; that they arrive is in tests/system/test_gauges.py."""

from __future__ import annotations

import time
from typing import Any

import pytest

from lehr.launch import entry, gauges
from lehr.vitals import Vitals


class FakeGauge:
    """Keeps what it is set to."""

    shown: dict[tuple[str, str], float] = {}  # noqa: RUF012

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        self._name, self._keys = name, set(tag_keys)

    def set(self, value: float, tags: dict[str, str]) -> None:
        assert set(tags) == self._keys, "Ray refuses others"
        assert all(isinstance(each, str) for each in tags.values())
        self.shown[self._name, tags.get("phase", "")] = value


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> tuple[gauges.Board, Vitals, dict[Any, float]]:
    monkeypatch.setattr(gauges, "Gauge", FakeGauge)
    monkeypatch.setattr(FakeGauge, "shown", {})
    monkeypatch.setenv("HOROVOD_RANK", "1")
    monkeypatch.setenv("HOROVOD_SIZE", "3")
    monkeypatch.setenv(entry.ATTEMPT, "2")
    vitals = Vitals()
    return gauges.Board("a-run", vitals), vitals, FakeGauge.shown


def test_attempt_and_workers_come_from_the_launcher(board: Any) -> None:
    board, _, shown = board
    for _ in range(2):  # Ray forgets what is not said again
        shown.clear()
        board.show()
        assert (shown["lehr_attempt", ""], shown["lehr_workers", ""]) == (2, 3)


def test_phases_add_up_to_the_step(board: Any) -> None:
    board, vitals, shown = board
    vitals.times = {"step": 1.0, "data": 0.1, "compute": 0.5, "exchange": 0.2, "checkpoint": 0.0}
    board.show()
    parts = {phase: value for (name, phase), value in shown.items() if name == "lehr_step_seconds"}
    assert set(parts) == {"data", "compute", "exchange", "checkpoint", "other"}
    assert sum(parts.values()) == pytest.approx(1.0)


def test_age_begins_with_the_first_checkpoint(board: Any) -> None:
    board, vitals, shown = board
    board.show()
    assert ("lehr_checkpoint_age_seconds", "") not in shown
    vitals.checkpoint_at = time.time() - 100.0
    board.show()
    assert 100.0 <= shown["lehr_checkpoint_age_seconds", ""] < 160.0


def test_step_rate_and_bytes_are_shown(board: Any) -> None:
    board, vitals, shown = board
    vitals.arrive(41)
    vitals.examples_per_s, vitals.uploaded_bytes = 12.5, 1000
    board.show()
    assert shown["lehr_step", ""] == 41
    assert shown["lehr_examples_per_second", ""] == 12.5
    assert shown["lehr_uploaded_bytes", ""] == 1000
