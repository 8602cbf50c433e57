"""The wish that a run end: who is told, and how its end is seen."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import jobs as small
from lehr import status
from lehr.cli import known, stored, wishes
from lehr.cli.known import Known
from lehr.cli.wishes import Wish
from lehr.errors import LaunchError, UserError
from lehr.launch import ending, stopping
from lehr.launch.addresses import Address
from lehr.launch.jobs import Job
from lehr.status import Status
from lehr.store import Store

ALIVE = Job("ebm.1", "ebm", 1, "RUNNING", storage="/nowhere", started=time.time())


class Cluster:
    """Answers as a cluster does that ends a job some looks after it was asked to."""

    def __init__(self, *jobs: Job, looks: int = 2) -> None:
        self.jobs, self.looks, self.asked = list(jobs), looks, 0

    def all(self) -> list[Job]:
        return self.jobs

    def stop(self, job: str) -> bool:
        self.asked += 1
        return True

    def get(self, job: str) -> Job:
        self.looks -= 1
        if self.looks == 0 and self.asked:
            self.jobs[-1] = dataclasses.replace(self.jobs[-1], status="STOPPED", ended=time.time())
        return self.jobs[-1]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wishes, "LOOK_S", 0.01)
    monkeypatch.setattr(wishes, "AGAIN_S", 0.05)


@pytest.fixture
def run(tmp_path: Path) -> Store:
    return small.storage(tmp_path).below("ebm")


def write(run: Store, word: str, *, age_s: float = 0.0) -> None:
    status.write(run, Status(word, 5, 10, 1))
    if age_s:
        told = (run.local_path(status.KEY) or Path()).read_text()
        aged = status.read(run)
        assert aged is not None
        (run.local_path(status.KEY) or Path()).write_text(
            told.replace(f'"time": {aged.time}', f'"time": {aged.time - age_s}')
        )


def wish(run: Store, there: Any = None, *, now: bool = False, jobs: tuple[Job, ...] = ()) -> Wish:
    made = Wish(Known("ebm", stored.read(run), jobs), there, now=now)
    made.ask(say=lambda _: None)
    return made


def test_without_a_cluster_the_wish_lies_in_storage_until_the_run_has_stopped(run: Store) -> None:
    write(run, "running")
    made = wish(run)
    assert run.size(stopping.KEY)
    assert not made.wait(0.1)
    stopping.clear(run)  # by a driver that was just starting
    assert not made.wait(0.2)
    assert run.size(stopping.KEY), "told again"
    write(run, "stopped")
    assert made.wait(10)
    assert wishes.ending(made.found) == "stopped at step 5/10, no checkpoint"


def test_run_that_nobody_drives_is_not_waited_for(run: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wishes, "UNHEARD_S", 0.1)
    write(run, "running", age_s=200)
    before = time.monotonic()
    made = wish(run)
    assert not made.wait(60)
    assert time.monotonic() - before < 30
    assert "running, silent for" in wishes.ending(made.found)


def test_job_on_a_cluster_is_stopped_by_ray_alone(run: Store) -> None:
    """The driver writes the wish itself: one of ours could outlive it."""
    write(run, "running")
    there = Cluster(ALIVE)
    made = wish(run, there, jobs=(ALIVE,))
    assert made.wait(10)
    assert there.asked
    assert run.size(stopping.KEY) is None
    assert wishes.ending(made.found).startswith("its driver has ended (job ebm.1 stopped); last seen running")


def test_cluster_that_does_not_hear_at_once_is_told_again(run: Store) -> None:
    there = Cluster(ALIVE, looks=30)
    made = Wish(Known("ebm", None, (ALIVE,)), there, now=False)  # type: ignore[arg-type]
    made.ask(say=lambda _: None)
    assert made.wait(20)
    assert there.asked > 1
    assert "job ebm.1 stopped before there was a step" in wishes.ending(made.found)


def test_killed_run_is_said_to_have_stopped(run: Store) -> None:
    write(run, "running")
    made = wish(run, now=True)
    assert run.read(stopping.KEY) == ending.NOW
    run.write(stopping.KEY, ending.DONE)
    assert made.wait(10)
    told = status.read(run)
    assert told is not None
    assert (told.status, told.message) == ("stopped", "killed by lehr stop --now")


def test_kill_that_nobody_can_hear_is_not_promised() -> None:
    said: list[str] = []
    there: Any = Cluster(ALIVE)
    Wish(Known("ebm", None, (ALIVE,)), there, now=True).ask(say=said.append)
    assert there.asked == 1
    assert "its storage is not seen here" in said[0]
    assert "at once" not in said[1]


def test_driver_that_hears_it_kills_itself_and_answers(run: Store) -> None:
    program = (
        "import sys, time\nfrom lehr import store\nfrom lehr.launch import ending\nending.LISTEN_S = 0.1\n"
        "with ending.listening(store.connect(sys.argv[1]), print):\n    time.sleep(100)\n"
    )
    ending.ask_now(run)
    done = subprocess.run([sys.executable, "-c", program, run.url], timeout=100)
    assert done.returncode == ending.CODE
    assert ending.is_done(run)


@pytest.mark.parametrize(
    ("word", "age_s", "over"),
    [("completed", 0, True), ("stopped", 0, True), ("failed", 0, False), ("failed", 100, True),
     ("running", 0, False), ("running", 100, False), ("queued", 0, False)],
)  # fmt: skip
def test_run_is_over_when_nobody_goes_on(word: str, age_s: float, over: bool, run: Store) -> None:
    write(run, word, age_s=age_s)
    assert wishes.is_over(Known("ebm", stored.read(run))) is over


def test_run_is_over_with_its_job_unless_another_driver_has_it(run: Store) -> None:
    write(run, "running")
    just = dataclasses.replace(ALIVE, status="FAILED", ended=time.time())
    long_ago = dataclasses.replace(just, ended=time.time() - 1000)
    assert not wishes.is_over(Known("ebm", stored.read(run), (ALIVE,)))
    assert wishes.is_over(Known("ebm", stored.read(run), (just,)))
    assert not wishes.is_over(Known("ebm", stored.read(run), (long_ago,)))


def test_run_is_found_where_its_job_keeps_it(run: Store, tmp_path: Path) -> None:
    write(run, "running")
    there: Any = Cluster(dataclasses.replace(ALIVE, storage=str(tmp_path)))
    found = known.find("ebm", str(tmp_path / "elsewhere"), there)
    assert (found.run and found.run.status and found.run.status.step) == 5
    assert found.job == there.jobs[0]


def test_living_job_is_meant_before_another_run_of_its_name(run: Store, tmp_path: Path) -> None:
    write(run, "completed")
    there: Any = Cluster(dataclasses.replace(ALIVE, storage=str(tmp_path / "of-job")))
    assert known.find("ebm", str(tmp_path), there).run is None
    there.jobs = [dataclasses.replace(there.jobs[0], status="FAILED")]
    found = known.find("ebm", str(tmp_path), there)
    assert found.run is not None
    assert found.jobs == ()


def test_of_two_living_runs_of_one_name_none_is_meant(run: Store, tmp_path: Path) -> None:
    write(run, "running")
    there: Any = Cluster(dataclasses.replace(ALIVE, storage=str(tmp_path / "of-job")))
    with pytest.raises(UserError, match="two runs of this name are alive"):
        known.find("ebm", str(tmp_path), there)
    assert known.find(run.url, "runs", there).run is not None


def test_storage_tells_alone_when_the_cluster_does_not_answer(run: Store, tmp_path: Path) -> None:
    class Silent:
        def all(self) -> list[Job]:
            raise LaunchError("nobody answers")

    write(run, "running")
    found = known.find("ebm", str(tmp_path), Silent())  # type: ignore[arg-type]
    assert found.run is not None
    assert found.trouble == "nobody answers"
    with pytest.raises(LaunchError):
        known.find("other", str(tmp_path), Silent())  # type: ignore[arg-type]


def test_run_that_nobody_knows_is_told_with_near_names(tmp_path: Path) -> None:
    there: Any = Cluster(ALIVE)
    with pytest.raises(UserError, match="the cluster knows no run 'ebn'; did you mean ebm"):
        known.find("ebn", str(tmp_path), there)


def test_list_joins_what_both_know(run: Store, tmp_path: Path) -> None:
    write(run, "running")
    write(small.storage(tmp_path).below("alone"), "completed")
    here = dataclasses.replace(ALIVE, storage=str(tmp_path))
    there = dataclasses.replace(ALIVE, id="far.2", run="far", number=2, status="PENDING", storage="s3://b/r")
    runs = stored.runs(small.storage(tmp_path))
    rows = known.rows(known.in_storage([here, there], runs, str(tmp_path)))
    assert [row[:4] for row in rows] == [
        ("run", "status", "on the cluster", "step"),
        ("alone", "completed", "-", "5/10"),
        ("ebm", "running", "ebm.1 running", "5/10"),
        ("far", "pending, no folder seen here yet", "far.2 pending", "-"),
    ]


def test_run_of_the_same_name_elsewhere_is_another_row(run: Store, tmp_path: Path) -> None:
    write(run, "completed")
    runs = stored.runs(small.storage(tmp_path))
    far = dataclasses.replace(ALIVE, storage="s3://bucket/runs")
    rows = known.rows(known.in_storage([far], runs, str(tmp_path)))[1:]
    assert sorted(row[1:3] for row in rows) == [
        ("completed", "-"), ("running, no folder seen here yet", "ebm.1 running")
    ]  # fmt: skip


def test_run_that_moved_is_one_row_with_its_newest_job(run: Store, tmp_path: Path) -> None:
    write(run, "running")
    before = dataclasses.replace(ALIVE, storage="s3://bucket/runs", status="FAILED")
    now = dataclasses.replace(ALIVE, id="ebm.2", number=2, storage=str(tmp_path))
    rows = known.rows(known.in_storage([before, now], stored.runs(small.storage(tmp_path)), str(tmp_path)))
    assert [row[:3] for row in rows[1:]] == [("ebm", "running", "ebm.2 running")]


def test_job_that_failed_before_storage_heard_of_it_is_amiss(run: Store) -> None:
    """The run stopped well; submitted again, it did not even begin."""
    write(run, "stopped", age_s=100.0)
    told = Known("ebm", stored.read(run), (ALIVE,))
    ended: Any = {"status": "FAILED", "exit_code": 2, "started": time.time()}
    again = dataclasses.replace(ALIVE, id="ebm.2", number=2, **ended)
    there: Any = SimpleNamespace(address=Address("http://head:8265"), log=lambda job: "no such secret\n")
    failed = dataclasses.replace(told, jobs=(ALIVE, again))
    assert not known.is_amiss(told)
    assert known.is_amiss(failed)
    assert "    no such secret" in list(known.status_lines(failed, there))
    before = dataclasses.replace(again, started=ALIVE.started - 200.0)  # what it did since is in storage
    assert not known.is_amiss(dataclasses.replace(told, jobs=(before,)))
