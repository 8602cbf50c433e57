"""W&B's own offline file, decoded with W&B's own messages, holds exactly the journal's points."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jobs
import lehr
import wandb_file
from fakes import MemoryStore
from lehr import figures
from lehr.journal import Journal
from lehr.plan import Plan
from lehr.store import Store, connect
from lehr.tracking import place as places
from lehr.tracking import replay
from lehr.tracking.place import Place, identity
from lehr.tracking.tracker import Background
from lehr.tracking.wandb import Offline, key, mode

OFFLINE = "tracking.wandb={project: lehr, mode: offline, tags: [a, b], notes: why}"


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.wandb"))


def points(run: Store, attempt: int) -> list[dict[str, Any]]:
    """What an attempt's journal adds to those before, as rows."""
    rows = list(replay.rows(replay.entries(run, until=attempt)))
    before = len(list(replay.rows(replay.entries(run, until=attempt - 1))))
    return [{**row.values, "step": row.step} for row in rows[before:]]


def live(plan: Plan, run: Store, attempt: int, start: int, steps: int) -> None:
    """An attempt of `steps` steps, told to journal and W&B as a worker does it."""
    journal, tracker = Journal(run, attempt), Background(Offline(run))
    entry = journal.start(start, versions={"lehr": "1"})
    tracker.start(plan, attempt)
    tracker.record(entry)
    for step in range(start + 1, start + steps + 1):
        values = {
            "train/loss": 1.0 / step,
            "time/step_s": np.float32(0.1),
            "odd": [np.nan, np.inf, -np.inf][step % 3],
        }
        tracker.record(journal.metrics(step, values))
        if step % 5 == 0:
            tracker.record(journal.metrics(step, {"validation/loss": 2.0 / step}))
    tracker.record(journal.end(start + steps, "completed"))
    journal.close()
    tracker.close()
    assert tracker.problem is None


def test_two_attempts_hold_their_journals_points_under_one_id(tmp_path: Path) -> None:
    plan = jobs.plan(jobs.EBM, OFFLINE, run_id="a.run")
    run = jobs.storage(tmp_path).below(plan.run_id)
    live(plan, run, 1, 0, 12)
    live(plan, run, 2, 10, 3)  # in the same second, by which W&B names folders
    found = files(tmp_path)
    place = places.find(run)
    assert place is not None
    assert place.id.startswith("a-run-")
    assert [file.name for file in found] == [f"run-{place.id}.wandb"] * 2
    for attempt, file in enumerate(found, start=1):
        np.testing.assert_equal(wandb_file.rows(file), points(run, attempt))
        config = wandb_file.config(file)
        assert config["attempt"] == attempt
        assert (config["versions"], config["from_step"]) == ({"lehr": "1"}, (0, 10)[attempt - 1])
        assert wandb_file.exit_code(file) == 0
        assert config["spec_hash"] == plan.spec_hash
        assert config["sampler"]["steps"] == plan.spec.sampler.steps
        assert config["plan"]["steps"] == plan.steps
    assert len(points(run, 1)) == 14  # 12 of training, 2 of validation
    assert len(points(run, 2)) == 1  # steps 11 and 12 were done before
    assert wandb_file.numbers(found[1]) == [14]


def test_no_secret_is_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "canary-5d41402abc4b2a76b9719d911017c592aa")
    wandb = "tracking.wandb={project: lehr, mode: offline, api_key: 'env:CANARY'}"
    plan = jobs.plan(jobs.EBM, wandb, "storage_options={key: 'env:CANARY'}")
    run = jobs.storage(tmp_path).below(plan.run_id)
    live(plan, run, 1, 0, 2)
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert b"canary-5d41" not in file.read_bytes(), file


def test_a_store_without_files_gets_them_at_the_end() -> None:
    plan = jobs.plan(jobs.EBM, OFFLINE)
    run = connect("memory://wandb-test").below(plan.run_id)
    live(plan, run, 1, 0, 3)
    [name] = [name for name in run.list("wandb") if name.endswith(".wandb")]
    assert run.read(name).startswith(b":W&B")


def test_pictures_lie_beside_the_file(tmp_path: Path) -> None:
    plan, run = jobs.plan(jobs.EBM, OFFLINE), jobs.storage(tmp_path)
    png = figures.grid(np.zeros((4, 8, 8, 1)))
    run.write("samples/step-00000005/grid.png", png)
    tracker = Background(Offline(run))
    tracker.start(plan, 1)
    told = {"folder": "samples/step-00000005", "pictures": ["grid"]}
    tracker.record({"type": "event", "event": "samples", "step": 5, **told})
    tracker.close()
    assert tracker.problem is None
    [row] = wandb_file.rows(files(tmp_path)[0])
    picture = files(tmp_path)[0].parent / "files" / row["samples/grid.path"]
    assert (row["step"], row["samples/grid._type"]) == (5, "image-file")
    assert picture.read_bytes() == png


PROGRAM = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import jobs
from lehr.tracking.wandb import Offline
plan = jobs.plan(jobs.EBM, {offline!r})
tracker = Offline(jobs.storage(Path({folder!r})).below(plan.run_id))
tracker.start(plan, 1)
for step in range(1, 2000):
    tracker.record({{"type": "metrics", "step": step, "values": {{"train/loss": 1.0 / step}}}})
    print(step, flush=True)
    time.sleep(0.01)
"""


def test_after_a_kill_the_file_holds_a_beginning(tmp_path: Path) -> None:
    tests = str(Path(__file__).parents[1])
    program = PROGRAM.format(tests=tests, offline=OFFLINE, folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 150:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.communicate()
    [file] = files(tmp_path)
    deadline = time.monotonic() + 90
    while not wandb_file.rows(file) and time.monotonic() < deadline:
        time.sleep(0.5)  # wandb-core, a process of its own, writes what it was given
    found = wandb_file.rows(file)
    assert 0 < len(found) <= 2000
    assert found == [
        {"step": step, "train/loss": pytest.approx(1.0 / step)} for step in range(1, len(found) + 1)
    ]


class Node:
    """The spec's `tracking.wandb`, as far as the mode needs it."""

    def __init__(self, mode: str, api_key: str | None = None) -> None:
        self.mode, self.api_key = mode, api_key


def test_auto_is_online_only_where_a_key_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert mode(Node("auto")) == "offline"
    assert mode(Node("online")) == "online"
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password from-netrc\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert (mode(Node("auto")), key(Node("auto"))) == ("online", "from-netrc")
    monkeypatch.setenv("WANDB_API_KEY", "from-environment")
    assert key(Node("auto")) == "from-environment"
    monkeypatch.setenv("MINE", "from-reference")
    assert key(Node("auto", "env:MINE")) == "from-reference"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert mode(Node("auto")) == "offline"
    monkeypatch.delenv("WANDB_MODE")
    assert mode(Node("auto", "env:NOT_SET")) == "online"  # and then it says that the reference names nothing


def test_ids_are_what_wandb_takes() -> None:
    assert identity("ebm-digits_2") == "ebm-digits_2"
    assert identity("ebm.digits") == "ebm-digits-" + hashlib.sha256(b"ebm.digits").hexdigest()[:8]
    assert identity("ebm.digits") != identity("ebm-digits")
    assert len(identity("x" * 100)) == 64
    assert identity("x" * 100) != identity("x" * 99)


def settled(run: Store, project: str = "p", entity: str | None = None) -> Place:
    return places.settle(run, "ebm", project=project, entity=entity, code=lambda: "lehr 1")


def test_a_run_keeps_its_id_and_another_of_its_name_has_its_own() -> None:
    run, other = MemoryStore(), MemoryStore()
    first = settled(run)
    assert first.id.startswith("ebm-")
    assert first == settled(run)
    assert first.id != settled(other).id
    assert settled(run, "elsewhere").id == first.id


def test_who_makes_the_id_at_once_gets_the_same() -> None:
    class Late(MemoryStore):
        """Another process makes it between the look and the try."""

        def create(self, key: str, data: bytes) -> bool:
            if key not in self.objects:
                settled(other)
                self.objects[key] = other.objects[key]
            return super().create(key, data)

    other, run = MemoryStore(), Late()
    assert settled(run) == settled(other)


def test_the_owner_is_remembered_for_its_project() -> None:
    run = MemoryStore()
    place = settled(run)
    places.keep(run, Place(place.id, "p", "team", place.code))
    assert settled(run).entity == "team"
    assert settled(run, entity="me").entity == "me"
    assert settled(run, "elsewhere").entity is None


def test_runs_of_before_keep_their_id() -> None:
    run = MemoryStore()
    run.write("wandb/offline-run-1/run-ebm.wandb", b"")
    assert settled(run).id == "ebm"


def test_the_code_is_named_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert places.code_version() == f"lehr {lehr.__version__}"

    def git(*arguments: str) -> str:
        names = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(["git", *names, *arguments], check=True, capture_output=True, text=True).stdout

    (tmp_path / "job.yaml").write_text("a")
    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    commit = git("rev-parse", "HEAD").strip()
    assert places.code_version() == f"lehr {lehr.__version__}, git {commit}"
    (tmp_path / "job.yaml").write_text("b")
    assert places.code_version() == f"lehr {lehr.__version__}, git {commit} (changed)"
