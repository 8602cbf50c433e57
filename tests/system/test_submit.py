"""Jobs that are sent to a Ray head of their own over the Jobs API, with a token."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import jobs as small
import ray_head
from lehr import journal, status
from lehr.errors import UserError
from lehr.launch import addresses, parcels
from lehr.launch.jobs import FAILED, PENDING, RUNNING, STOPPED, WAIT, Job, Jobs, Submission
from ray_head import Head

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(900)]
PATIENCE_S = 300.0
FOR_EVER = "--set=train.duration={steps: 1000000}"


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with ray_head.head() as up:
        yield up


@pytest.fixture
def cluster(head: Head, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    monkeypatch.setenv("RAY_AUTH_TOKEN", head.token)
    return Jobs(addresses.parse(head.address))


def until(found: Callable[[], Any], what: str) -> Any:
    """What `found` gives once that is something."""
    end = time.monotonic() + PATIENCE_S
    while not (answer := found()):
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.5)
    return answer


def ended(cluster: Jobs, job: str) -> Job:
    def look() -> Job | None:
        found = cluster.get(job)
        return found if found and not found.alive else None

    return until(look, f"the end of {job}")


def stub(run: str, entrypoint: str = "exec sleep 1000", **environment: str) -> Submission:
    """A job that trains nothing, where the training is not the point."""
    return Submission(run, "/nowhere/runs", entrypoint, parcels.job("stub"), (), environment)


def write_job(folder: Path) -> None:
    (folder / "job.yaml").write_text(small.LENET)


def test_submitted_run_completes_and_is_followed(head: Head, tmp_path: Path) -> None:
    write_job(tmp_path)
    said = head.lehr("submit", "job.yaml", "--run", "first", "--follow", "--ship", folder=tmp_path)
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stdout.splitlines()[0] == "first"
    assert "first: completed at step 10 of 10" in said.stdout
    run = small.storage(tmp_path / "runs").below("first")  # a folder of this machine, as it is the cluster
    assert small.final(run)[0].step == 10
    listed = head.lehr("list", folder=tmp_path)
    [row] = [line.split() for line in listed.stdout.splitlines() if line.startswith("first ")]
    assert row[:5] == ["first", "completed", "first.1", "over", "10/10"]
    assert head.lehr("status", "first", folder=tmp_path).returncode == 0
    over = head.lehr("stop", "first", folder=tmp_path)
    assert (over.returncode, over.stdout.startswith("run first is over: completed at step 10/10")) == (
        0,
        True,
    )


def test_stop_leaves_a_checkpoint_that_the_next_submission_goes_on_from(head: Head, tmp_path: Path) -> None:
    write_job(tmp_path)
    words = ("submit", "job.yaml", FOR_EVER, "--set=checkpoint.every={steps: 1000000}", "--run", "long")
    run = small.storage(tmp_path / "runs").below("long")
    before = time.monotonic()
    said = head.lehr(*words, folder=tmp_path)
    assert (said.returncode, said.stdout) == (0, "long\n"), said.stderr
    assert time.monotonic() - before < 60  # it does not wait for the job
    until(lambda: (told := status.read(run)) and told.step > 2, "steps")

    second = head.lehr(*words, folder=tmp_path)
    assert second.returncode == 2
    assert "run long: it is on the cluster already, as job long.1, running since" in second.stderr

    stopped = head.lehr("stop", "long", folder=tmp_path)
    assert stopped.returncode == 0, stopped.stderr
    told = status.read(run)
    assert told is not None
    assert told.status == "stopped"
    assert small.final(run)[0].step == told.step > 2
    assert (
        f"run long: stopped at step {told.step}/1000000, checkpoint step-{told.step:08d}.a1" in stopped.stdout
    )

    again = head.start(*words, "--follow", folder=tmp_path)
    until(lambda: (now := status.read(run)) and now.step > told.step and now.attempt == 2, "the next attempt")
    [start] = [entry for entry in journal.read_attempt(run, 2) if entry["type"] == "start"]
    assert start["from_step"] == told.step

    again.send_signal(signal.SIGINT)
    shown, said_aside = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 130
    assert shown.startswith("long\n")
    assert "long: single, 1 worker, 1000000 steps, going on from step" in shown
    assert "no longer followed; run long goes on" in said_aside

    os.kill(start["processes"][0], signal.SIGSTOP)  # it will never finish its step
    killed = head.lehr("stop", "long", "--now", folder=tmp_path)
    assert killed.returncode == 0, killed.stdout + killed.stderr
    assert (left := status.read(run)) is not None
    assert left.status == "stopped"
    assert small.final(run)[0].step == told.step
    assert "long.2 stopped" in head.lehr("list", folder=tmp_path).stdout


def test_rays_own_stop_waits_for_the_driver(cluster: Jobs, tmp_path: Path) -> None:
    """Ray kills after 3 s, unless the job says otherwise: it does, and Ray hears it."""
    done, begun, program = tmp_path / "done", tmp_path / "begun", tmp_path / "patient.py"
    program.write_text(
        "import pathlib, signal, sys, time\n"
        "def end(*_):\n"
        "    time.sleep(5)\n"
        f"    pathlib.Path({str(done)!r}).touch()\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        f"pathlib.Path({str(begun)!r}).touch()\n"
        "time.sleep(1000)\n"
    )
    job = cluster.submit(stub("patient", f"exec python {program}", **{WAIT: "60"}))
    until(begun.exists, "the driver")
    assert cluster.stop(job.id)
    assert ended(cluster, job.id).status == STOPPED
    assert done.exists()


def test_job_that_waits_is_stopped(head: Head, cluster: Jobs, tmp_path: Path) -> None:
    job = cluster.submit(stub("waiting"))
    said = head.lehr("stop", "waiting", folder=tmp_path)
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"job {job.id} stopped before there was a step" in said.stdout
    assert ended(cluster, job.id).status == STOPPED
    again = head.lehr("stop", "waiting", folder=tmp_path)
    assert (again.returncode, again.stdout.startswith("run waiting is over:")) == (0, True)


def test_job_that_fails_before_it_has_a_folder_is_told_by_the_cluster(
    head: Head, cluster: Jobs, tmp_path: Path
) -> None:
    job = cluster.submit(stub("broken", "echo what happened; exit 7"))
    assert ended(cluster, job.id).status == FAILED
    told = head.lehr("status", "broken", folder=tmp_path)
    assert told.returncode == 1
    assert "run broken: failed, no folder seen here" in told.stdout
    assert "what happened" in told.stdout
    logged = head.lehr("logs", "broken", "--rank", "driver", "--follow", folder=tmp_path)
    assert "what happened" in logged.stdout
    unread = head.lehr("logs", "broken", folder=tmp_path)
    assert unread.returncode == 2
    assert "--rank driver" in unread.stderr
    unknown = head.lehr("status", "brokn", folder=tmp_path)
    assert unknown.returncode == 2
    assert "did you mean broken?" in unknown.stderr
    assert cluster.submit(stub("broken", "true")).id == "broken.2", "the dead one is in nobody's way"


@pytest.mark.parametrize(
    ("changed", "code", "said"),
    [
        ({"RAY_AUTH_TOKEN": "f" * 32}, 2, "the cluster does not take the token of RAY_AUTH_TOKEN"),
        ({"RAY_AUTH_TOKEN": ""}, 2, "the cluster asks for a token, and none was found here"),
        ({"RAY_ADDRESS": "http://127.0.0.1:1"}, 1, "nobody answers there"),
        ({"RAY_ADDRESS": "http://192.0.2.1:8265", "RAY_AUTH_TOKEN": ""}, 2, "there is no token for it here"),
        ({"RAY_ADDRESS": "192.0.2.1:6379"}, 2, "is it http://192.0.2.1:8265?"),
    ],
)  # fmt: skip
def test_what_keeps_from_a_cluster_is_one_letter(
    changed: dict[str, str], code: int, said: str, head: Head, tmp_path: Path
) -> None:
    write_job(tmp_path)
    answer = head.lehr("submit", "job.yaml", "--storage", "s3://bucket/runs", folder=tmp_path, **changed)
    assert (answer.returncode, answer.stdout) == (code, ""), answer.stderr
    assert said in answer.stderr
    assert "Traceback" not in answer.stderr
    assert head.token not in answer.stderr


def test_drivers_port_is_no_dashboard(head: Head, tmp_path: Path) -> None:
    answer = head.lehr("list", "--address", f"http://{head.gcs}", folder=tmp_path)
    assert answer.returncode == 1
    assert "what answers there is no dashboard of Ray" in answer.stderr or "nobody answers" in answer.stderr


def test_fifty_calls_at_once_none_lost_none_wrong(cluster: Jobs) -> None:
    """Twenty runs submitted, one of them ten times, while ten others are stopped and ten asked after."""
    with ThreadPoolExecutor(50) as pool:
        first = list(pool.map(lambda i: cluster.submit(stub(f"old-{i}")), range(10)))
        assert [job.id for job in first] == [f"old-{i}.1" for i in range(10)]

        new = [pool.submit(cluster.submit, stub(f"new-{i}")) for i in range(20)]
        same = [pool.submit(cluster.submit, stub("same")) for _ in range(10)]
        stops = [pool.submit(cluster.stop, job.id) for job in first]
        looks = [pool.submit(cluster.get, job.id) for job in first]

        assert [each.result().id for each in new] == [f"new-{i}.1" for i in range(20)]
        assert [each.result() for each in stops] == [True] * 10
        assert [each.result().run for each in looks] == [job.run for job in first]
        errors = [each.exception() for each in same]
    winners = [each.result() for each, error in zip(same, errors, strict=True) if error is None]
    assert [job.id for job in winners] == ["same.1"]
    assert all(
        isinstance(error, UserError) and "already, as job same.1" in str(error) for error in errors if error
    )
    assert [ended(cluster, job.id).status for job in first] == [STOPPED] * 10
    known = {job.id: job.status for job in cluster.all() if job.run.startswith(("old-", "new-", "same"))}
    assert len(known) == 31
    alive = {f"new-{i}.1" for i in range(20)} | {"same.1"}
    assert {job for job, told in known.items() if told in (PENDING, RUNNING)} == alive
    for job in alive:
        cluster.stop(job)
    assert {ended(cluster, job).status for job in alive} == {STOPPED}
