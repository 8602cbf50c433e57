"""Workers through Ray Train on a cluster that was there before; `test_resume` has clusters of a run's own."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import jobs
from lehr.store import Store

pytestmark = [pytest.mark.system, pytest.mark.slow]
TESTS = Path(__file__).parents[1]
# Ray reads its settings once in a process, so each driver has one of its own.
DRIVER = """
import json, pathlib, sys
import jobs
from lehr.errors import LehrError
from lehr.launch import train

storage, worker, address, *sets = sys.argv[1:]
try:
    outcome = train.run(jobs.plan(jobs.LENET, *sets), jobs.storage(pathlib.Path(storage)),
                        address=address or None, worker=f"launch_workers:{worker}")
    answer = outcome.document()
except LehrError as error:
    answer = {"error": type(error).__name__, "message": str(error)}
print("answer:", json.dumps(answer))
"""


def drive(storage: Store, worker: str, strategy: str, *, address: str = "") -> tuple[dict[str, Any], str]:
    """What `train.run` answered in a process of its own, and all else that this process said."""
    arguments = [storage.url, worker, address, f"strategy={strategy}"]
    said = subprocess.run(
        [sys.executable, "-c", DRIVER, *arguments], capture_output=True, text=True, timeout=300
    )
    assert said.returncode == 0, said.stderr
    before, _, answer = said.stdout.rpartition("answer: ")
    return json.loads(answer), before + said.stderr


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    store = jobs.storage(tmp_path)
    store.write("lenet/plan.json", b"{}")
    return store


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of two CPUs that asks for a token, as `ray start --head` makes it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(TESTS))
        folder = tempfile.mkdtemp(
            prefix="lehr-test-", dir="/tmp"
        )  # pytest's own are too long for Ray's sockets
        log = tmp_path_factory.mktemp("ray") / "head.log"
        head = subprocess.Popen(
            [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--disable-usage-stats",
             f"--port={port}", "--num-cpus=2", "--include-dashboard=false", f"--temp-dir={folder}",
             f"--object-store-memory={100 << 20}"],
            stdout=log.open("wb"), stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            while b"Ray runtime started" not in log.read_bytes():
                assert head.poll() is None, log.read_text()
                time.sleep(0.2)
            yield f"127.0.0.1:{port}"
        finally:
            below = psutil.Process(head.pid).children(recursive=True)
            for process in [*below, head]:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            head.wait()
            shutil.rmtree(folder, ignore_errors=True)


def test_mistake_of_the_user_is_told_as_it_is_and_not_tried_again(storage: Store, address: str) -> None:
    answer, chatter = drive(storage, "refuse", "{kind: horovod, workers: 2}", address=address)
    assert answer == {
        "error": "UserError",
        "message": "data.root: nothing is there\n  do: name another folder",
    }
    assert storage.below("lenet").list("journal") == ["journal/attempt-0001.jsonl"]
    assert chatter == ""


def test_multiworker_workers_meet_with_keras_3(storage: Store, address: str) -> None:
    answer, chatter = drive(storage, "reduce", "{kind: multiworker, workers: 2}", address=address)
    assert answer["metrics"] == {"sum": 3.0, "legacy": 0.0}
    assert chatter == ""


def test_folder_that_workers_do_not_see_is_told(storage: Store, address: str) -> None:
    storage.delete("lenet/plan.json")  # as on another host's disk
    answer, _ = drive(storage, "exchange", "{kind: horovod, workers: 2}", address=address)
    assert answer["error"] == "UserError"
    assert re.search(r"does not see .*/lenet/plan\.json", answer["message"])


def test_cluster_without_room_is_told_before_waiting(storage: Store, address: str) -> None:
    answer, _ = drive(storage, "exchange", "{kind: horovod, workers: 4}", address=address)
    assert "4 workers of 1 CPU need more than this cluster ever has (2 of them fit)" in answer["message"]
