"""W&B, online: its own client sends a journal to a loopback server.

The server speaks the part of W&B's API which that client uses (`wandb_server`): W&B's own cannot run here.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import jobs
import wandb_server
from lehr import status
from lehr.journal import Journal
from lehr.plan import Plan
from lehr.store import Store
from lehr.tracking import place as places
from lehr.tracking import replay, sending, wandb
from lehr.tracking.online import Limits, Online
from lehr.tracking.sync import sync
from wandb_server import KEY, Run, WandbServer

pytestmark = [pytest.mark.system, pytest.mark.slow]

WANDB = "tracking.wandb={project: lehr, mode: online, tags: [a, b], notes: why}"
SEND_S = 1.0  # between two sendings of W&B's client: these tests would wait for its own 15 s again and again
SENDING = "WANDB__FILE_STREAM_TRANSMIT_INTERVAL"
# At its own rate a client is stalled after more than 15 s.
QUICK = Limits(init_s=3.0, finish_s=3.0, answer_s=2.0, retry_s=(0.2, 1.0), check_s=0.5, stalled_s=25.0)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[WandbServer]:
    monkeypatch.setenv(SENDING, str(SEND_S))
    with wandb_server.serving(monkeypatch, tmp_path) as found:
        yield found


@pytest.fixture
def plan() -> Plan:
    return jobs.plan(jobs.EBM, WANDB, run_id="r.1")


@pytest.fixture
def run(tmp_path: Path, plan: Plan) -> Store:
    run = jobs.storage(tmp_path / "runs").below(plan.run_id)
    run.write("plan.json", json.dumps(plan.document()).encode())
    return run


@functools.cache
def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new("L", (4, 4), shade).save(buffer, "png")
    return buffer.getvalue()


class Life:
    """An attempt that trains: values at each step, pictures and a checkpoint at every fifth."""

    def __init__(
        self, run: Store, plan: Plan, attempt: int = 1, start: int = 0, limits: Limits = QUICK
    ) -> None:
        self.said: list[str] = []
        self.waited_s = 0.0
        self._run, self._step, self._attempt = run, start, attempt
        self._journal = Journal(run, attempt)
        client = wandb.Client(run, init_s=limits.init_s, finish_s=limits.finish_s)
        self.tracker = Online(run, client, tell=self.said.append, limits=limits)
        self._wait_for(lambda: self.tracker.start(plan, attempt))
        self._tell(self._journal.start(start, versions={"lehr": "9"}))

    def train(self, steps: int) -> Life:
        for _ in range(steps):
            self._step += 1
            odd = [np.nan, np.inf, -np.inf][self._step % 3]
            values = {"train/loss": 1.0 / self._step, "time/step_s": 0.1 * self._attempt, "odd": odd}
            self._tell(self._journal.metrics(self._step, values))
            if self._step % 5 == 0:
                self._save(self._step)
        return self

    def _save(self, step: int) -> None:
        folder, checkpoint = f"samples/step-{step:08d}", f"step-{step:08d}.a{self._attempt}"
        self._run.write(f"{folder}/grid.png", png(step))
        self._tell(self._journal.event("samples", step, folder=folder, pictures=["grid"]))
        self._run.write(f"checkpoints/{checkpoint}/manifest.json", checkpoint.encode())
        self._tell(self._journal.event("checkpoint", step, checkpoint=checkpoint))

    def end(self, outcome: str = "completed") -> Life:
        self._tell(self._journal.end(self._step, outcome))
        self._journal.close()
        self.tracker.close()
        return self

    def _tell(self, entry: dict[str, Any]) -> None:
        assert self._journal.flush(10.0)
        self._wait_for(lambda: self.tracker.record(entry))

    def _wait_for(self, call: Callable[[], None]) -> None:
        began = time.monotonic()
        call()
        self.waited_s += time.monotonic() - began


def until(true: Callable[[], Any], limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def wanted(run: Store) -> list[dict[str, Any]]:
    """The history that W&B is to have."""
    rows = list(replay.rows(replay.entries(run)))
    files = {
        row.number: {
            name: {"path": sending.picture_file(row, name, run.read(key))}
            for name, key in row.pictures.items()
        }
        for row in rows
    }
    return [{"_step": row.number, "step": row.step, **row.values, **files[row.number]} for row in rows]


def found(there: Run) -> list[dict[str, Any]]:
    """The history that it has; of pictures, the file alone."""

    def plain(value: Any) -> Any:
        return {"path": value["path"]} if isinstance(value, dict) else value

    return [
        {name: plain(value) for name, value in row.items() if name not in ("_timestamp", "_runtime")}
        for row in there.raw_history
    ]


def there(server: WandbServer, run: Store) -> Run:
    place = places.find(run)
    assert place is not None
    return server.run("lehr", place.id)


def check(server: WandbServer, run: Store) -> Run:
    """W&B has the journal's rows and pictures, each once, in one run."""
    assert len(server.runs) == 1
    sent = there(server, run)
    np.testing.assert_equal(found(sent), wanted(run))
    for row in replay.rows(replay.entries(run)):
        for name, key in row.pictures.items():
            data = run.read(key)
            assert sent.files[sending.picture_file(row, name, data)] == data
    return sent


def rows(server: WandbServer) -> int:
    return sum(len(run.raw_history) for run in server.runs.values())


def test_two_attempts_are_one_run_with_all_that_is_known(
    server: WandbServer, run: Store, plan: Plan, tmp_path: Path
) -> None:
    first = Life(run, plan).train(12).end("failed")
    assert there(server, run).state == "failed"
    second = Life(run, plan, attempt=2, start=10).train(10).end()
    assert first.said == second.said == []
    sent = check(server, run)
    assert (sent.state, sent.group, sent.job_type) == ("finished", "ebm", "train")
    assert (sent.name, sent.tags, sent.notes) == ("r.1", ["a", "b"], "why")
    assert (sent.config["attempt"], sent.config["spec_hash"]) == (2, plan.spec_hash)
    assert sent.config["lehr_version"] == "9"
    assert sent.config["code_version"].startswith("lehr ")
    assert sent.config["sampler"]["steps"] == plan.spec.sampler.steps
    assert sent.config["plan"]["steps"] == plan.steps
    folder = run.local_path("checkpoints")
    names = ["step-00000005.a1", "step-00000010.a1", "step-00000015.a2", "step-00000020.a2"]
    assert [each.references for each in sent.artifacts] == [
        {name: f"file://{folder}/{name}"} for name in names
    ]
    aliases = [sorted(each.aliases) for each in sent.artifacts]
    assert aliases == [["step-5"], ["step-10"], ["step-15"], ["latest", "step-20"]]
    assert {each.type for each in sent.artifacts} == {"model"}
    assert sent.artifacts[0].metadata == {
        "checkpoint": names[0],
        "step": 5,
        "attempt": 1,
        "manifest_sha256": hashlib.sha256(names[0].encode()).hexdigest(),
    }
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
    assert not list(tmp_path.rglob("*.wandb"))  # nothing is left that `wandb sync` would send again


def test_down_for_the_whole_run_then_synced_twice(server: WandbServer, run: Store, plan: Plan) -> None:
    server.stop()
    life = Life(run, plan).train(23).end()
    assert life.waited_s < 5.0  # of 31 calls
    assert "W&B lacks 27 rows of run r.1 (" in life.said[-1]
    assert life.said[-1].endswith("): lehr track sync r.1")
    server.start()
    said = command(run)
    assert said.returncode == 0, said.stderr
    assert "had 0 of 27 rows; sent 27 rows, 4 checkpoints" in said.stdout
    sent = check(server, run)
    assert sent.state == "finished"
    assert len(sent.artifacts) == 4
    again = command(run)
    assert again.returncode == 0, again.stderr
    assert "r.1: nothing missing: " in again.stdout
    assert len(check(server, run).artifacts) == 4


def command(run: Store) -> subprocess.CompletedProcess[str]:
    """`lehr track sync` of a run, as another machine would call it."""
    program = (
        "import sys; from lehr.cli import app\n"
        "try: app.main()\n"
        "finally: assert not {'tensorflow', 'keras', 'ray', 'horovod'} & set(sys.modules)"
    )
    arguments = [sys.executable, "-c", program, "track", "sync", run.url]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=120)


def test_dying_in_the_middle_and_back_later(server: WandbServer, run: Store, plan: Plan) -> None:
    life = Life(run, plan).train(8)
    until(lambda: rows(server) == 9)
    server.stop()
    life.train(8)
    until(lambda: life.said)
    assert "W&B is behind: " in life.said[0]
    life.train(8)
    server.start()
    life.train(3)
    until(lambda: rows(server) > 12)
    life.train(3).end()
    if life.said[-1].endswith("lehr track sync r.1"):  # its client was still waiting to try again
        sync(run)
    check(server, run)


def test_dying_in_the_middle_for_good_then_synced(server: WandbServer, run: Store, plan: Plan) -> None:
    life = Life(run, plan).train(8)
    until(lambda: rows(server) == 9)
    server.stop()
    life.train(10).end()
    assert life.said[-1].endswith("): lehr track sync r.1")
    server.start()
    done = sync(run)
    assert (done.had, done.sent, done.rows) == (9, 12, 21)
    check(server, run)
    assert sync(run).nothing


PROGRAM = """
import sys, time
sys.path[:0] = [{tests!r}, {tests!r} + "/system"]
import jobs
from pathlib import Path
from test_wandb_online import Life, WANDB
plan = jobs.plan(jobs.EBM, WANDB, run_id="r.1")
life = Life(jobs.storage(Path({folder!r})).below("r.1"), plan)
for _ in range(1000):
    life.train(1)
    time.sleep(0.02)
"""


def test_a_dead_rank_0_and_its_next_attempt(
    server: WandbServer, run: Store, plan: Plan, tmp_path: Path
) -> None:
    tests = str(Path(__file__).parents[1])
    program = PROGRAM.format(tests=tests, folder=str(tmp_path / "runs"))
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        until(lambda: rows(server) > 20)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    life = Life(run, plan, attempt=2, start=10).train(40).end()
    if life.said:  # the dead one's client may still send: the same rows
        sync(run)
    check(server, run)


@pytest.mark.parametrize("status_code", [429, 503])
def test_one_that_is_busy_at_the_start(server: WandbServer, run: Store, plan: Plan, status_code: int) -> None:
    server.fault(".", status=status_code, times=8)
    life = Life(run, plan).train(10)
    until(lambda: rows(server) == 12)
    life.end()
    check(server, run)
    assert not [text for text in life.said if "lehr track sync" in text]


def test_one_that_throttles_later(server: WandbServer, run: Store, plan: Plan) -> None:
    life = Life(run, plan).train(3)
    until(lambda: rows(server) == 3)
    server.fault("file_stream", status=429, retry_after=1, times=2)
    server.fault("file_stream", drop="after", times=1)  # taken, and the answer lost: it is sent again
    life.train(12)
    until(lambda: rows(server) == 18)
    life.end()
    check(server, run)


def test_a_wrong_key_is_said_once_and_synced_later(server: WandbServer, run: Store, plan: Plan) -> None:
    server.keys.clear()
    life = Life(run, plan)
    until(lambda: life.said)
    asked = len(server.requests)
    life.train(8)
    time.sleep(2.0)  # several times the pause between two tries
    assert len(server.requests) == asked
    life.end()
    assert len(server.requests) == asked
    assert len(life.said) == 2
    assert "lehr track sync r.1" in life.said[0]
    assert "W&B lacks 9 rows" in life.said[1]
    refused = command(run)
    assert refused.returncode == 1
    assert "not synced" in refused.stderr
    assert "Traceback" not in refused.stderr
    server.keys.add(KEY)
    assert sync(run).sent == 9
    check(server, run)
    assert not [text for text in [*life.said, refused.stderr] if KEY in text]


def test_a_key_that_expires(server: WandbServer, run: Store, plan: Plan) -> None:
    life = Life(run, plan).train(4)
    until(lambda: rows(server) == 4)
    server.keys.clear()
    life.train(4)
    until(lambda: life.said)
    assert "with a key: lehr track sync r.1" in life.said[0]
    life.end()
    assert "W&B lacks up to " in life.said[-1]
    server.keys.add(KEY)
    sync(run)
    check(server, run)


HANGING = """
import sys, time
sys.path[:0] = [{tests!r}, {tests!r} + "/system"]
import jobs
from dataclasses import replace
from pathlib import Path
from test_wandb_online import Life, QUICK, WANDB
from lehr.tracking.online import Limits
plan = jobs.plan(jobs.EBM, WANDB, run_id="r.1")
limits = replace(Limits(), **{limits!r})
life = Life(jobs.storage(Path({folder!r})).below("r.1"), plan, limits=limits)
life.train(5)
print("begun", flush=True)
sys.stdin.readline()
began = time.monotonic()
life.train(5).end()
print(time.monotonic() - began, life.waited_s, life.said[-1], flush=True)
"""


@pytest.mark.parametrize("when", ["start", "middle", "beyond"])
def test_a_server_that_hangs_does_not_keep_the_process(
    server: WandbServer, run: Store, tmp_path: Path, when: str
) -> None:
    """Also where W&B's client holds on for longer than the end of a run waits."""
    tests = str(Path(__file__).parents[1])
    patient = {"init_s": 100.0, "finish_s": 100.0, "answer_s": 100.0, "close_s": 4.0}
    limits = patient if when == "beyond" else {}
    if when != "middle":
        server.fault(".", hang_s=600.0)
    program = HANGING.format(tests=tests, folder=str(tmp_path / "runs"), limits=limits)
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        if when == "middle":
            until(lambda: rows(server) == 6)
            server.fault(".", hang_s=600.0)
        began = time.monotonic()
        out, err = process.communicate("go on\n", timeout=120)
        took_s = time.monotonic() - began
    finally:
        process.kill()
        server.clear()
    assert process.returncode == 0, err
    assert "Traceback" not in err
    closing_s, waited_s, said = out.split(maxsplit=2)
    assert float(waited_s) < 5.0
    assert float(closing_s) < 50.0
    assert took_s < 60.0
    assert "of run r.1" in said
    assert "lehr track sync r.1" in said
    sync(run)
    check(server, run)


def test_pictures_that_were_lost_are_sent_again(server: WandbServer, run: Store, plan: Plan) -> None:
    Life(run, plan).train(10).end()
    with server._lock:
        files = next(iter(server._state.runs.values())).files
        [lost, _] = sorted(name for name in files if name.startswith("media/"))
        del files[lost]
    done = sync(run)
    assert (done.sent, done.pictures) == (0, 1)
    check(server, run)
    assert sync(run).nothing


def test_a_run_without_wandb_goes_where_it_is_asked_to(server: WandbServer, run: Store) -> None:
    bare = jobs.plan(jobs.EBM, run_id="r.1")
    run.write("plan.json", json.dumps(bare.document()).encode())
    journal = Journal(run, 1)
    journal.start(0, versions={"lehr": "9"})
    journal.metrics(1, {"train/loss": 1.0})
    journal.end(1, "completed")
    journal.close()
    refused = command(run)
    assert (refused.returncode, "give --project" in refused.stderr) == (1, True)
    assert sync(run, project="lehr").sent == 1
    sent = check(server, run)
    assert sent.config["code_version"] == "lehr 9"
    assert sync(run).nothing  # it is known now where it is


def test_a_run_that_trains_is_left_to_its_own_tracker(server: WandbServer, run: Store) -> None:
    status.write(run, status.Status(status="running", step=1, steps=10, attempt=1))
    said = command(run)
    assert said.returncode == 1
    assert "it is being trained right now" in said.stderr
    assert "UpsertBucket" not in server.operations()
