"""Two runs compared, and what is told of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jobs
from fakes import MemoryStore
from lehr.chaos import comparison, report
from lehr.chaos.board import Board
from lehr.chaos.comparison import Line
from lehr.chaos.faults import Kill, Outage, Slow, TrackerDown
from lehr.chaos.pair import Ended, variants
from lehr.errors import LaunchError
from lehr.journal import Entry, claim_attempt, key, read
from lehr.store import connect
from lehr.worker.outcome import Outcome
from ranks import SLOTS, Ranks

PLAN = jobs.plan(
    jobs.EBM,
    f"train.global_batch={SLOTS}",
    "train.duration={steps: 4}",
    "sampler.buffer.size=12",
    "tracking.wandb={project: p, api_key: 'env:KEY'}",
)


def entry(kind: str, step: int, time: float = 0.0, attempt: int = 1, **fields: Any) -> Entry:
    return {"type": kind, "time": time, "attempt": attempt, "step": step, **fields}


def metrics(step: int, **values: float) -> Entry:
    return entry("metrics", step, values={"train/loss": 1.0 / step, "time/step_s": 0.1} | values)


def finished(*entries: Entry) -> MemoryStore:
    """A run's folder with a checkpoint of the last step, and a journal."""
    store = MemoryStore()
    Ranks(store).save(2, PLAN.steps)
    claim_attempt(store)
    told = [entry("start", 0, from_step=0), *(entries or [metrics(step) for step in (1, 2, 3, 4)])]
    store.append(key(1), "".join(json.dumps(each) + "\n" for each in told).encode())
    return store


def compared(one: MemoryStore, other: MemoryStore) -> dict[str, Line]:
    return {line.name: line for line in comparison.compare(PLAN, one, other)}


def test_equal_runs_are_equal() -> None:
    lines = compared(finished(), finished())
    assert all(line.same for line in lines.values()), lines
    assert list(lines) == ["weights", "optimizer", "chains", "progress", "metrics", "checkpoints"]
    assert lines["metrics"].said == "the same 4 entries of the journal"
    assert lines["checkpoints"].said == "2 of 2 in the store are what was written"


def test_a_missing_last_checkpoint_is_told() -> None:
    other = finished()
    for name in other.list("checkpoints/step-00000004.a1"):
        other.delete(name)
    lines = compared(finished(), other)
    assert not lines["checkpoint"].same
    assert "there is no checkpoint of step 4" in lines["checkpoint"].said
    assert lines["checkpoints"].same
    assert lines["checkpoints"].said == "1 of 1 in the store are what was written"


def test_a_checkpoint_that_is_not_what_was_written_is_told() -> None:
    other = finished()
    name = "checkpoints/step-00000002.a1/weights.safetensors"
    other.objects[name] = other.objects[name][:-1] + b"?"
    lines = compared(finished(), other)
    assert lines["weights"].same
    assert not lines["checkpoints"].same
    assert lines["checkpoints"].said.startswith("1 of 2 in the store are what was written; step-00000002.a1:")


def test_a_run_without_checkpoints_is_not_good() -> None:
    assert not comparison.verified(MemoryStore()).same


def arrays(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> Line:
    given = [{name: np.asarray(value) for name, value in each.items()} for each in (mine, theirs)]
    return comparison._arrays("weights", *given)


def test_one_bit_is_a_difference() -> None:
    one = np.asarray([1.0, -2.0], np.float32)
    assert arrays({"a": one}, {"a": one.copy()}).same
    assert not arrays({"a": one}, {"a": np.nextafter(one, 3, dtype=np.float32)}).same
    assert not arrays({"a": np.float32([0.0])}, {"a": np.float32([-0.0])}).same
    assert arrays({"a": np.float32([np.nan])}, {"a": np.float32([np.nan])}).same
    assert not arrays({"a": one}, {"a": one.astype(np.float64)}).same


def test_the_largest_difference_and_its_variable_are_named() -> None:
    line = arrays({"a": [1.0, 4.0], "b": [2.0], "c": [1.0]}, {"a": [1.0, 4.2], "b": [2.5], "c": [1.0]})
    assert line.said == "2 of 3 arrays differ, the most b: by 0.25 of its largest value"
    assert "the most a: by inf" in arrays({"a": [np.nan]}, {"a": [1.0]}).said
    assert "not the same arrays: b, c" in arrays({"a": [1], "b": [1]}, {"a": [1], "c": [1]}).said


def test_times_are_not_compared_and_nan_equals_itself() -> None:
    one = [metrics(1, **{"train/x": float("nan"), "rate/examples_per_s": 3.0})]
    other = [metrics(1, **{"train/x": float("nan"), "time/step_s": 9.0})]
    assert comparison.metrics(one, other).same


@pytest.mark.parametrize(
    ("theirs", "said"),
    [
        ([metrics(1), metrics(2, **{"train/loss": 0.6})], "differ from step 2 on, first in train/loss"),
        ([metrics(1)], "the journal has 1 entries, undisturbed 2; steps 2 are missing"),
        ([metrics(1), metrics(2), metrics(2)], "the journal has 3 entries, undisturbed 2"),
        ([metrics(1), metrics(3)], "differ from step 2 on, first in the step: 3"),
        ([metrics(1), metrics(2, **{"train/more": 1.0})], "from step 2 on, first in train/more"),
    ],
)
def test_other_metrics_are_told(theirs: list[Entry], said: str) -> None:
    line = comparison.metrics([metrics(1), metrics(2)], theirs)
    assert not line.same
    assert said in line.said


def test_the_journal_of_the_run_is_what_is_compared() -> None:
    other = finished(metrics(1), metrics(2), metrics(3))
    assert read(other)
    assert not compared(finished(), other)["metrics"].same


def test_both_runs_are_the_same_job_and_tell_nobody(tmp_path: Path) -> None:
    storage = connect(str(tmp_path))
    calm, hit = variants(PLAN, storage, [Kill(0, 1)])
    assert calm.spec_hash == hit.spec_hash == PLAN.spec_hash
    assert calm.run_id.startswith("chaos-ebm-")
    assert calm.run_id != hit.run_id
    assert calm.spec.tracking.wandb is hit.spec.tracking.wandb is None
    calm, hit = variants(PLAN, storage, [TrackerDown()])
    assert calm.spec.tracking.wandb is None
    assert hit.spec.tracking.wandb is not None
    assert (hit.spec.tracking.wandb.mode, hit.spec.tracking.wandb.api_key) == ("online", None)


# --- the report ----------------------------------------------------------------------------------------

GOOD = [Line("weights", same=True, said="equal to the bit")]
ATTEMPTS = {
    1: [
        entry("start", 0, 101.0, from_step=0),
        entry("event", 2, 103.0, event="checkpoint", checkpoint="step-00000002.a1"),
        entry("event", 3, 104.0, event="storage_outage", reason="503"),
        entry("event", 3, 105.0, event="failed", message="another\nworker died"),
    ],
    2: [
        entry("start", 2, 110.0, attempt=2, from_step=2),
        entry("event", 4, 114.5, attempt=2, event="checkpoint", checkpoint="step-00000004.a2"),
        entry("end", 4, 115.0, attempt=2, outcome="completed"),
    ],
}


def ended(**fields: Any) -> Ended:
    given = {"outcome": Outcome("completed", 4, {}, "")} | fields
    return Ended(PLAN, MemoryStore(), began=100.0, took_s=20.0, **given)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    made = Board.make(tmp_path / "board", [Kill(1, 3), Outage("503", 4.0, 2), Slow(0, 2.0), TrackerDown()])
    made.clock = lambda: 104.0
    return made


def struck(board: Board) -> Board:
    assert board.strike(0, step=3, rank=1, attempt=1)
    assert board.strike(1, step=2, rank=0, attempt=1)
    for verb in ("put", "put", "append"):
        board.note(1, rank=0, verb=verb, key="k", waited_s=0.5)
    board.note(2, step=3, slept_s=1.25)
    return board


def test_the_report_tells_each_fault_and_what_came_of_it(board: Board) -> None:
    said = report.text(struck(board), (ended(), ended()), ATTEMPTS, GOOD)
    for line in (
        "  kill rank 1 @ step 3\n    at 4.0 s, at step 3, in attempt 1",
        "    attempt 2 went on from step 2 after 6.0 s; 1 step done again",
        "  store 503 4 s @ step 2\n    at 4.0 s, at step 2, in attempt 1",
        "    3 calls suffered (2 put, 1 append), 1.5 s waited",
        "    6.5 s after its end the checkpoint of step 4 was stored",
        "    it slept 1.2 s in 1 steps",
        "  W&B down\n    it said nothing",
        "  1  from step 0 to 3, 1.0 to 5.0 s: died",
        "  2  from step 2 to 4, 10.0 to 15.0 s: completed",
        "      4.0 s  attempt 1: storage_outage at step 3: reason 503",
        "      5.0 s  attempt 1: failed at step 3: message another worker died",
        "  weights      equal to the bit",
        "  status       completed at step 4 of 4",
    ):
        assert line in said, said
    assert said.splitlines()[-1] == "verdict: the disturbed run completed and equals the undisturbed one"
    assert report.good(board, ended(), GOOD)


def test_a_fault_that_never_struck_proves_nothing(board: Board) -> None:
    assert board.strike(1, step=2, rank=0, attempt=1)
    said = report.text(board, (ended(), ended()), ATTEMPTS, GOOD)
    assert "  kill rank 1 @ step 3\n    it never happened: the run ended before" in said
    assert said.splitlines()[-1] == "verdict: kill rank 1 @ step 3 never happened; nothing is proven"
    assert not report.good(board, ended(), GOOD)


def test_a_run_that_failed_is_told_with_its_letter(board: Board) -> None:
    failed = ended(outcome=None, error=LaunchError("worker 1 failed\n  do: mend it"))
    said = report.text(struck(board), (ended(), failed), {}, [])
    assert "  status       failed\n               worker 1 failed\n                 do: mend it\n" in said
    assert "no attempt went on after it" in said
    assert said.splitlines()[-1] == "verdict: the disturbed run did not complete"
    assert not report.good(board, failed, GOOD)


def test_a_stopped_run_is_not_good(board: Board) -> None:
    assert not report.good(struck(board), ended(outcome=Outcome("stopped", 3, {}, "")), GOOD)


def test_a_difference_is_in_the_verdict(board: Board) -> None:
    lines = [*GOOD, Line("chains", same=False, said="1 of 4 arrays differ")]
    assert not report.good(struck(board), ended(), lines)
    assert report.verdict(board, ended(), lines).endswith("differs from the undisturbed: chains")
