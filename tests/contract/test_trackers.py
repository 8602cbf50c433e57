"""Every tracker takes the same calls, and none of its troubles reaches training."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

import jobs
from lehr.tracking.tracker import Background, Memory, Nothing, Tracker, make
from lehr.tracking.wandb import Wandb

OFFLINE = "tracking.wandb={project: lehr, mode: offline}"


def png() -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new("L", (4, 4), 128).save(buffer, "png")
    return buffer.getvalue()


def entries() -> list[dict[str, Any]]:
    head = {"time": 0.0, "attempt": 1}
    return [
        {"type": "start", "step": 0, "from_step": 0, **head},
        {"type": "metrics", "step": 1, "values": {"train/loss": 1.5, "odd": float("nan")}, **head},
        {"type": "event", "step": 1, "event": "checkpoint", **head},
        {"type": "event", "step": None, "event": "note", **head},
        {"type": "end", "step": 1, "outcome": "completed", **head},
    ]


@pytest.mark.parametrize("create", [
    lambda run: Nothing(),
    lambda run: Memory(),
    lambda run: Background(Memory()),
    Wandb,
    lambda run: Background(Wandb(run)),
], ids=["nothing", "memory", "background", "wandb", "background-wandb"])  # fmt: skip
def test_a_life_of_calls(create: Callable[..., Tracker], tmp_path: Path) -> None:
    plan = jobs.plan(jobs.EBM, OFFLINE)
    tracker = create(jobs.storage(tmp_path).below(plan.run_id))
    tracker.start(plan, 1)
    for entry in entries():
        tracker.record(entry)
    tracker.image("samples/grid", 1, png())
    tracker.close()
    assert getattr(tracker, "problem", None) is None


def test_the_background_tells_everything_in_order() -> None:
    memory = Memory()
    tracker = Background(memory)
    plan = jobs.plan(jobs.EBM)
    tracker.start(plan, 3)
    for entry in entries():
        tracker.record(entry)
    tracker.image("a", 1, b"x")
    tracker.close()
    told = [
        ("start", (plan, 3)),
        *(("record", (e,)) for e in entries()),
        ("image", ("a", 1, b"x")),
        ("close", ()),
    ]
    assert [name for name, _ in memory.calls] == [name for name, _ in told]
    assert memory.calls[2][1][0]["values"]["train/loss"] == 1.5


class Broken(Memory):
    def record(self, entry: dict[str, Any]) -> None:
        super().record(entry)
        raise OSError("no route to host")


def test_one_that_raises_is_switched_off_and_said(capfd: pytest.CaptureFixture[str]) -> None:
    inner = Broken()
    tracker = Background(inner)
    for entry in entries():
        tracker.record(entry)
    tracker.close()
    assert isinstance(tracker.problem, OSError)
    assert len(inner.calls) == 1
    assert "tracking is switched off: OSError: no route to host" in capfd.readouterr().err


class Hanging(Memory):
    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def record(self, entry: dict[str, Any]) -> None:
        self.go_on.wait()


def test_one_that_hangs_holds_up_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    inner = Hanging()
    tracker = Background(inner, waiting=2, patience_s=0.3, close_s=0.2)
    began = time.monotonic()
    for _ in range(100):
        tracker.record(entries()[1])
    tracker.close()
    assert time.monotonic() - began < 5.0  # it would hang for ever
    assert tracker.lost >= 97
    said = capfd.readouterr().err
    assert "tracking did not end within 0.2 s" in said
    assert f"tracking missed {tracker.lost} entries" in said
    inner.go_on.set()


def test_one_that_is_slow_for_a_while_misses_nothing() -> None:
    class Slow(Memory):
        def record(self, entry: dict[str, Any]) -> None:
            time.sleep(0.01)
            super().record(entry)

    inner, said = Slow(), []
    tracker = Background(inner, tell=said.append, waiting=2)
    for _ in range(30):
        tracker.record(entries()[1])
    tracker.close()
    assert (len(inner.calls), tracker.lost, said) == (31, 0, [])


def test_what_the_job_asks_for_is_made(tmp_path: Path) -> None:
    run = jobs.storage(tmp_path)
    assert isinstance(make(jobs.plan(jobs.EBM), run), Nothing)
    assert isinstance(make(jobs.plan(jobs.EBM, "tracking.wandb={project: x, mode: disabled}"), run), Nothing)
    tracker = make(jobs.plan(jobs.EBM, OFFLINE), run)
    assert isinstance(tracker, Background)
    tracker.close()
