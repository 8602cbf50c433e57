"""The view of a run: what it learns from storage, and how it says it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import jobs
from lehr import journal, status
from lehr import store as stores
from lehr.cli import progress
from lehr.cli.following import Follower, Seen
from lehr.errors import StorageError
from lehr.journal import Journal
from lehr.launch.admission import Standing
from lehr.store import Store
from lehr.worker.outcome import Outcome


@pytest.fixture
def run(tmp_path: Path) -> Store:
    return stores.connect(str(tmp_path / "ebm"))


def tell(run: Store, state: str, step: int, *, attempt: int = 1) -> None:
    status.write(run, status.Status(status=state, step=step, steps=100, attempt=attempt))


def attempt(run: Store, from_step: int) -> Journal:
    diary = Journal(run, journal.claim_attempt(run))
    diary.start(from_step)
    return diary


def test_nothing_is_seen_before_a_worker_speaks(run: Store) -> None:
    follower = Follower(run)
    assert follower.look() == []
    assert follower.seen == Seen()


def test_an_earlier_drivers_words_are_not_this_runs(run: Store) -> None:
    attempt(run, 0).close()
    tell(run, "stopped", 40)
    follower = Follower(run, attempts=1, step=40)
    assert follower.look() == []
    assert (follower.seen.attempt, follower.seen.status, follower.seen.step) == (0, "waiting", 40)


def test_a_run_that_waits_for_room_is_seen_before_its_first_attempt(run: Store) -> None:
    attempt(run, 0).close()
    status.write(run, status.Status("queued", 40, 100, 1, "left by an earlier driver"))
    follower = Follower(run, attempts=1, step=40)
    follower.look()
    assert (follower.seen.status, follower.seen.waits) == ("waiting", "")
    status.write(run, status.Status("queued", 40, 100, 1, "waits for room: ..."))
    follower.look()
    assert (follower.seen.status, follower.seen.waits) == ("queued", "waits for room: ...")
    assert (follower.seen.attempt, follower.seen.step, follower.seen.trouble) == (0, 40, "")
    status.write(run, status.Status("queued", 40, 100, 1))
    follower.look()
    assert progress.headline(jobs.plan(jobs.EBM), follower.seen) == "starting the workers ..."


def test_workers_that_left_did_not_die(run: Store) -> None:
    follower = Follower(run)
    first = attempt(run, 0)
    first.end(60, "left")
    first.close()
    attempt(run, 60).close()
    tell(run, "queued", 60)
    tell(run, "running", 61, attempt=2)
    assert follower.look() == ["the workers left, with a checkpoint; attempt 2 resumed from step 60"]
    assert (follower.seen.restarts, follower.seen.left) == (1, 1)


def test_metrics_and_checkpoints_are_seen_once(run: Store) -> None:
    follower = Follower(run, now=lambda: 1000.0)
    diary = attempt(run, 0)
    tell(run, "running", 7)
    diary.metrics(5, {"train/loss": 2.0, "train/odd": float("nan")})
    diary.event("checkpoint", 5)
    assert follower.look() == []
    assert follower.seen.values["train/loss"] == 2.0
    assert follower.seen.values["train/odd"] != follower.seen.values["train/odd"]
    assert (follower.seen.checkpoint_step, follower.seen.checkpoint_time) == (5, 1000.0)
    diary.metrics(7, {"train/loss": 1.0})
    diary.event("checkpoint_skipped", 7, checkpoint="step-00000005.a1", reason="torn")
    assert follower.look() == ["checkpoint skipped at step 7: checkpoint step-00000005.a1, reason torn"]
    assert follower.seen.values["train/loss"] == 1.0
    assert follower.look() == []
    diary.close()


def test_a_half_written_line_is_read_when_it_is_whole(run: Store) -> None:
    attempt(run, 0).close()
    tell(run, "running", 1)
    follower = Follower(run)
    follower.look()
    line = b'{"type":"metrics","time":1,"attempt":1,"step":1,"values":{"train/loss":3.0}}\n'
    run.append(journal.key(1), line[:30])
    follower.look()
    assert follower.seen.values == {}
    run.append(journal.key(1), line[30:])
    follower.look()
    assert follower.seen.values == {"train/loss": 3.0}


def test_speed_leaves_out_the_wait_for_the_compiler(run: Store) -> None:
    clock = [0.0]
    follower = Follower(run, now=lambda: clock[0])
    attempt(run, 40).close()
    for step in [40] * 20 + [41, 43, 45]:  # two steps a second, and the first took twenty
        tell(run, "running", step)
        follower.look()
        clock[0] += 1.0
    assert follower.seen.steps_per_s == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("[Errno 104] Connection reset by peer", "a worker died; attempt 2 resumed from step 40"),
        ("out of memory\nmore", "a worker failed: out of memory; attempt 2 resumed from step 40"),
        (None, "a worker died; attempt 2 resumed from step 40"),
    ],
)
def test_restart_is_told_with_its_reason(run: Store, message: str | None, said: str) -> None:
    follower = Follower(run)
    diary = attempt(run, 0)
    tell(run, "running", 50)
    follower.look()
    if message is not None:
        diary.event("failed", 50, message=message)
        tell(run, "failed", 50)
        assert follower.look() == []
    diary.close()
    attempt(run, 40).close()
    tell(run, "starting", 0, attempt=2)
    assert follower.look() == [said]
    assert (follower.seen.step, follower.seen.from_step, follower.seen.restarts) == (40, 40, 1)


def test_attempts_between_two_looks_are_not_lost(run: Store) -> None:
    follower = Follower(run)
    for step in (0, 10, 20):
        attempt(run, step).close()
    tell(run, "running", 20, attempt=3)
    assert follower.look() == [
        "a worker died; attempt 2 resumed from step 10",
        "a worker died; attempt 3 resumed from step 20",
    ]


def test_best_value_is_kept_by_the_specs_metric(run: Store) -> None:
    plan = jobs.plan(jobs.LENET, "checkpoint.keep_best={metric: validation/accuracy, mode: max}")
    follower = Follower(run, best=plan.spec.checkpoint.keep_best)
    diary = attempt(run, 0)
    tell(run, "running", 30)
    for step, value in ((10, 0.5), (20, 0.9), (30, 0.7)):
        diary.metrics(step, {"validation/accuracy": value})
    diary.close()
    follower.look()
    assert follower.seen.best == (0.9, 20)
    assert progress.best(plan, follower.seen) == [("best", "validation/accuracy 0.9 at step 20")]


class Deaf:
    """A store that does not answer."""

    def __getattr__(self, name: str) -> Any:
        def refuse(*arguments: Any) -> Any:
            raise StorageError("the network is gone")

        return refuse


def test_storage_that_does_not_answer_is_asked_again(run: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt(run, 0).close()
    tell(run, "running", 3)
    follower = Follower(run)
    monkeypatch.setattr(follower, "_run", Deaf())
    assert follower.look() == []
    monkeypatch.setattr(follower, "_run", run)
    follower.look()
    assert follower.seen.step == 3


def seen(**changes: Any) -> Seen:
    values = {"train/loss": 0.25, "train/accuracy": 0.9, "validation/loss": 0.5, "rate/examples_per_s": 640.0}
    given = {
        "status": "running",
        "attempt": 1,
        "step": 4,
        "from_step": 0,
        "values": values,
        "steps_per_s": 2.0,
    }
    return Seen(**given | changes)


def test_line_tells_everything_at_once() -> None:
    plan = jobs.plan(jobs.LENET)
    assert progress.line(plan, seen(checkpoint_step=3)) == (
        "step 4/10, epoch 0.80  2 steps/s, 640 examples/s, 0:00:03 left  "
        "accuracy 0.9, loss 0.25; validation: loss 0.5  checkpoint 3"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"attempt": 0}, "starting the workers ..."),
        ({"status": "starting"}, "loading data, building the model ..."),
        ({"status": "failed"}, "starting all workers again ..."),
        ({"status": "queued"}, "starting all workers again ..."),
        ({"status": "queued", "waits": "waits for room: ..."}, "queued: waits for room: ..."),
    ],
)
def test_headline_says_what_is_waited_for(changes: dict[str, Any], said: str) -> None:
    assert progress.headline(jobs.plan(jobs.LENET), seen(**changes)) == said


def test_details_tell_restarts_and_the_age_of_the_checkpoint() -> None:
    rows = progress.details(
        seen(restarts=2, attempt=3, from_step=40, checkpoint_step=40, checkpoint_time=100.0), now=160.0
    )
    assert dict(rows)["checkpoint"] == "step 40, 60 s ago"
    assert dict(rows)["attempt"] == "3; workers failed 2 times; now from step 40"


def test_details_tell_failures_from_workers_that_left() -> None:
    rows = progress.details(seen(restarts=3, left=1, attempt=4, from_step=40), now=160.0)
    assert dict(rows)["attempt"] == "4; workers failed 2 times and left once; now from step 40"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0:00:00"), (61.4, "0:01:01"), (36_061, "10:01:01"), (-1, "0:00:00")]
)
def test_clock(seconds: float, said: str) -> None:
    assert progress.clock(seconds) == said


def test_summary_says_where_things_are_and_what_comes_next() -> None:
    plan = jobs.plan(jobs.EBM)
    done = progress.summary(
        plan, "runs/ebm", Outcome("completed", 10, {"train/loss": 0.5}), places=[], took_s=5
    )
    assert done.splitlines()[:2] == ["ebm: completed at step 10 of 10, after 0:00:05", "  loss 0.5"]
    for part in (
        "runs/ebm/checkpoints",
        "runs/ebm/logs",
        "lehr show ebm",
        "lehr sample ebm",
    ):
        assert part in done
    stopped = progress.summary(plan, "runs/ebm", Outcome("stopped", 4), places=[("W&B", "offline")], took_s=5)
    assert "give the same command again" in stopped
    assert re.search(r"^  W&B +offline$", stopped, re.MULTILINE)
    diverged = progress.summary(
        plan, "runs/ebm", Outcome("diverged", 4, {}, "step 4: nan"), places=[], took_s=5
    )
    assert "step 4: nan" in diverged
    assert "lehr sample" not in diverged


def test_dashboards_name_the_command_that_sends_offline_runs(
    run: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = jobs.plan(jobs.EBM, "tracking.wandb={project: p, mode: offline}")
    [(name, text)] = progress.dashboards(plan, run)
    assert (name, text) == ("W&B", "offline; to send it: lehr track sync ebm")
    assert progress.dashboards(jobs.plan(jobs.EBM), run) == []


def test_terminal_without_a_tty_prints_lines(run: Store, capfd: pytest.CaptureFixture[str]) -> None:
    plan = jobs.plan(jobs.LENET)
    with progress.Terminal(plan, run) as terminal:
        terminal.begin(Standing(attempts=0, step=None, complete=False))
        diary = attempt(run, 0)
        tell(run, "running", 2)
        diary.close()
        terminal._looked = terminal._printed = float("-inf")
        terminal.tick()
        assert terminal.end(Outcome("completed", 10), None) == 0
        assert terminal.end(Outcome("stopped", 5), 2) == 130
        assert terminal.end(Outcome("stopped", 5), None) == 0
        assert terminal.end(Outcome("diverged", 5), None) == 1
    said = capfd.readouterr()
    assert said.err.splitlines()[:3] == [
        "lenet: single, 1 worker, 10 steps",
        f"  folder {run.url}",
        "step 2/10, epoch 0.40",
    ]
    assert "lenet: completed at step 10 of 10" in said.out


def test_storage_that_does_not_answer_is_said_once_and_so_is_that_it_does_again(
    run: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    follower = Follower(run, now=lambda: clock[0])

    def refuse(store: Store) -> None:
        raise StorageError("s3://b/r/status.json: could not read it:\n  503")

    with monkeypatch.context() as outage:
        outage.setattr(status, "read", refuse)
        said = []
        for _ in range(5):
            said += follower.look()
            clock[0] += 4.0
    assert len(said) == 1
    assert said[0].startswith("storage does not answer here")
    assert said[0].endswith("could not read it: 503")
    assert follower.look() == ["storage answers again"]
    assert follower.look() == []
    with monkeypatch.context() as moment:
        moment.setattr(status, "read", refuse)
        assert follower.look() == []
    assert follower.look() == [], "a moment is not worth a word"


def test_what_waits_for_the_storage_is_said() -> None:
    told = seen(status="running", attempt=1, step=3, unsaved=2, trouble="503\n  SlowDown")
    plan = jobs.plan(jobs.LENET)
    assert progress.line(plan, told).endswith("2 checkpoints wait for the storage: 503 SlowDown")
    assert ("storage", "2 checkpoints wait for the storage: 503 SlowDown") in progress.details(told, now=0.0)
    told.status, told.unsaved = "paused", 1
    assert progress.unsaved(told) == "paused: 1 checkpoint waits for the storage: 503 SlowDown"
    told.unsaved = 0
    assert progress.unsaved(told) == ""


def test_a_storage_that_hangs_is_said_at_the_first_failure(
    run: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    follower = Follower(run, now=lambda: clock[0])

    def hang(store: Store) -> None:
        clock[0] += 41.0
        raise StorageError("no answer")

    monkeypatch.setattr(status, "read", hang)
    [said] = follower.look()
    assert said.startswith("storage does not answer here")
