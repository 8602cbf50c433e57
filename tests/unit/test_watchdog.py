"""When a group counts as hung, and who is named: signs of life in, a verdict out."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from lehr.launch import watchdog
from lehr.launch.standstill import Limits, Standstill, Verdict

LIMITS = Limits(hang_s=10.0, start_s=100.0)


def sign(step: int = 41, phase: str = "compute", **other: Any) -> dict[str, Any]:
    return {
        "step": step,
        "phase": phase,
        "since": 1.0,
        "warm": True,
        "uploaded_bytes": 0,
        "cpu_s": 0.0,
    } | other


def group(workers: int = 3) -> Standstill:
    return Standstill(LIMITS, [f"h{rank + 1}" for rank in range(workers)], 0.0)


def watched(signs: dict[int, dict[str, Any]], *, until: float, workers: int = 3) -> Verdict | None:
    """The verdict after the ranks gave the same sign each second."""
    standstill = group(workers)
    for second in range(int(until)):
        for rank, each in signs.items():
            standstill.hear(rank, each, float(second))
    return standstill.look(range(workers), until)


def test_nobody_hangs_while_one_gets_on() -> None:
    standstill = group(2)
    for second in range(60):
        standstill.hear(0, sign(step=second), float(second))
        standstill.hear(1, sign(), float(second))
        assert standstill.look([0, 1], second + 0.5) is None


def test_the_one_in_its_data_is_named() -> None:
    signs = {0: sign(), 1: sign(phase="data"), 2: sign()}
    assert watched(signs, until=10) is None
    verdict = watched(signs, until=12)
    assert verdict is not None
    assert (verdict.culprits, verdict.silent, verdict.known) == ((1,), (), True)
    assert verdict.message == "rank 1 on h2 is at step 41 in data since 12 s; ranks 0, 2 wait"


def test_the_one_a_step_behind_is_named() -> None:
    verdict = watched({0: sign(), 1: sign(), 2: sign(step=40)}, until=12)
    assert verdict is not None
    assert verdict.culprits == (2,)
    assert verdict.message == "rank 2 on h3 is at step 40 in compute since 12 s; ranks 0, 1 wait"


@pytest.mark.parametrize("phase", ["between", "validation", "samples", "checkpoint", "data"])
def test_whoever_is_before_the_exchange_is_waited_for(phase: str) -> None:
    verdict = watched({0: sign(phase=phase), 1: sign()}, until=12, workers=2)
    assert verdict is not None
    assert verdict.culprits == (0,)


def test_the_one_that_does_not_answer_is_named() -> None:
    standstill = group()
    for second in range(30):
        for rank in (0, 1, 2):
            if rank != 1 or second < 3:
                standstill.hear(rank, sign(), float(second))
        if verdict := standstill.look(range(3), float(second)):
            break
    assert verdict is not None
    assert (verdict.culprits, verdict.silent) == ((1,), (1,))
    assert verdict.message == (
        "rank 1 on h2 does not answer since 9 s; when it last did, it was at step 41 in compute; "
        "ranks 0, 2 wait"
    )


@pytest.mark.parametrize("phase", ["start", "pause", "end"])
def test_one_that_stops_answering_is_named_whatever_it_did(phase: str) -> None:
    standstill = group(2)
    standstill.hear(1, sign(step=0, phase=phase, warm=False), 1.0)
    for second in range(2, 12):
        standstill.hear(0, sign(step=second), float(second))
        assert standstill.look([0, 1], float(second - 1)) is None
    verdict = standstill.look([0, 1], 11.5)
    assert verdict is not None
    assert verdict.silent == (1,)


def test_the_one_that_computes_is_told_from_those_that_wait() -> None:
    standstill = group(2)
    for second in range(13):
        standstill.hear(0, sign(cpu_s=0.05 * second), float(second))
        standstill.hear(1, sign(cpu_s=0.98 * second), float(second))
    verdict = standstill.look([0, 1], 13.0)
    assert verdict is not None
    assert verdict.culprits == (1,)
    assert verdict.message == "rank 1 on h2 is at step 41 in compute, computing since 13 s; rank 0 waits"


@pytest.mark.parametrize(
    ("shares", "culprits"),
    [
        ((0.03, 0.25), (1,)),  # its host computes for others, too
        ((0.25, 0.98, 0.03), (0, 1)),
        ((0.01, 0.06), None),  # neither really computes
        ((0.3, 0.9), None),  # both do
        ((0.9, 0.9), None),
    ],
)
def test_who_computes_is_a_matter_of_proportion(
    shares: tuple[float, ...], culprits: tuple[int, ...] | None
) -> None:
    standstill = group(len(shares))
    for second in range(13):
        for rank, share in enumerate(shares):
            standstill.hear(rank, sign(cpu_s=share * second), float(second))
    verdict = standstill.look(range(len(shares)), 13.0)
    assert verdict is not None
    assert verdict.known == (culprits is not None)
    assert verdict.culprits == (culprits or tuple(range(len(shares))))


@pytest.mark.parametrize(("share", "idle", "word"), [(0.9, 0.2, ", computing"), (0.25, 0.2, "")])
def test_one_that_computes_in_its_data_is_told_from_one_that_sleeps_on_a_full_host(
    share: float, idle: float, word: str
) -> None:
    standstill = group(2)
    for second in range(13):
        standstill.hear(0, sign(cpu_s=idle * second), float(second))
        standstill.hear(1, sign(phase="data", cpu_s=share * second), float(second))
    verdict = standstill.look([0, 1], 13.0)
    assert verdict is not None
    assert verdict.message == f"rank 1 on h2 is at step 41 in data{word} since 13 s; rank 0 waits"


def test_nobody_is_blamed_where_nothing_tells_them_apart() -> None:
    verdict = watched({0: sign(), 1: sign(), 2: sign()}, until=12)
    assert verdict is not None
    assert (verdict.culprits, verdict.known) == ((0, 1, 2), False)
    assert verdict.message == (
        "no progress for 12 s: ranks 0, 1, 2 are all at step 41 in compute, and nothing tells which of them "
        "hangs"
    )


def test_a_single_worker_is_named() -> None:
    verdict = watched({0: sign(phase="samples")}, until=12, workers=1)
    assert verdict is not None
    assert verdict.known
    assert verdict.message == "rank 0 on h1 is at step 41 in samples since 12 s"


def test_a_pause_of_one_excuses_all() -> None:
    assert watched({0: sign(), 1: sign(phase="pause"), 2: sign()}, until=5000) is None


@pytest.mark.parametrize(
    "early", [sign(phase="start", step=0, warm=False), sign(step=0, warm=False), sign(phase="end")]
)
def test_beginning_and_end_may_take_longer(early: dict[str, Any]) -> None:
    assert watched({0: early, 1: early}, until=99, workers=2) is None
    assert watched({0: early, 1: early}, until=102, workers=2) is not None


def test_workers_that_never_answered_are_given_the_time_of_a_start() -> None:
    assert group().look(range(3), 99.0) is None
    verdict = group().look(range(3), 101.0)
    assert verdict is not None
    assert verdict.silent == (0, 1, 2)
    assert verdict.message.startswith("rank 0 on h1 has not answered in 101 s; rank 1 on h2")


def test_uploads_at_the_end_are_progress_and_in_training_are_not() -> None:
    for phase, hangs in (("end", False), ("data", True)):
        standstill = group(1)
        for second in range(150):
            standstill.hear(0, sign(phase=phase, uploaded_bytes=second), float(second))
        assert (standstill.look([0], 150.0) is not None) == hangs


def test_those_that_are_done_are_not_looked_at() -> None:
    standstill = group(2)
    for second in range(150):
        standstill.hear(0, sign(phase="end", uploaded_bytes=second), float(second))
        standstill.hear(1, sign(phase="end"), 0.0)
    assert standstill.look([0], 150.0) is None
    assert standstill.look([], 150.0) is None


# --- those that do not answer ---------------------------------------------------------------------


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that was stopped, and would never end."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    process.send_signal(signal.SIGSTOP)
    yield process
    process.kill()
    process.wait()


def test_one_that_does_not_answer_is_killed(sleeper: subprocess.Popen[bytes]) -> None:
    born = psutil.Process(sleeper.pid).create_time()
    told = watchdog.rouse(sleeper.pid, born)
    assert sleeper.wait(60) < 0
    assert "was made to print its stacks into its log, and was killed" in told
    assert watchdog.rouse(sleeper.pid, born) == f"its process {sleeper.pid} is gone"


def test_another_process_with_its_number_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    born = psutil.Process(sleeper.pid).create_time()
    for before, word in ((born - 60.0, "another one has its number"), (None, "was left alone")):
        assert word in watchdog.rouse(sleeper.pid, before)
        assert sleeper.poll() is None
