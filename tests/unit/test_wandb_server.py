"""The loopback server against W&B's own client, in processes of its own."""

from __future__ import annotations

import base64
import json
import math
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from wandb_graphql import execute
from wandb_server import KEY, Request, WandbServer, load

CLIENT = """
import json, os, sys
import numpy as np
import wandb
from wandb.sdk.artifacts.artifact_manifest_entry import ArtifactManifestEntry

def begin(**settings):
    quiet = dict(console="off", silent=True, disable_git=True, save_code=False, x_disable_stats=True)
    quiet |= dict(x_disable_machine_info=True, x_save_requirements=False, init_timeout=60) | settings
    return wandb.init(
        project="p", id="r", resume="allow", group="g", name="n", notes="why", tags=["t"],
        config={"a": {"b": 1}}, dir=os.environ["FOLDER"], settings=wandb.Settings(**quiet),
        reinit="create_new",
    )

def log(run, first, end):
    for step in range(first, end):
        run.log({"step": step, "loss": step / 2}, step=step)

def point(run, url, aliases):
    artifact = wandb.Artifact("checkpoint", "model", metadata={"url": url})
    artifact.manifest.add_entry(ArtifactManifestEntry(path="checkpoint", ref=url, digest=url))
    return run.log_artifact(artifact, aliases=aliases)

def tell(text):
    print(text, flush=True)
    sys.stdin.readline()
"""


class Client:
    """W&B's client in a process, which says where it is and waits for `go` there."""

    def __init__(self, server: WandbServer, folder: Path, body: str) -> None:
        given = {**server.environment, "FOLDER": str(folder), "HOME": str(folder), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLIENT + body], env={**os.environ, **given}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=(folder / "errors.txt").open("a"),
        )  # fmt: skip
        self._errors = folder / "errors.txt"

    def until(self, text: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip() == text:
                return
        raise AssertionError(self._errors.read_text())

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> str:
        """What it printed."""
        out, _ = self.process.communicate(timeout=240)
        assert self.process.returncode == 0, self._errors.read_text()
        return out


@pytest.fixture
def server() -> Iterator[WandbServer]:
    with WandbServer() as running:
        yield running
    assert running.errors == []
    assert running.unknown == set()


def steps(server: WandbServer) -> list[int]:
    return [row["step"] for row in server.run("p", "r").history]


def until(condition: Any, timeout_s: float = 120) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.system
def test_a_run_with_rows_pictures_and_references(server: WandbServer, tmp_path: Path) -> None:
    Client(server, tmp_path, """
run = begin()
run.log({"step": 0, "nan": float("nan"), "up": float("inf"), "down": float("-inf")}, step=0)
log(run, 1, 300)
run.log({"step": 300, "grid": wandb.Image(np.zeros((4, 4, 3), np.uint8))}, step=300)
point(run, "s3://bucket/run/checkpoints/1", ["best"])
run.finish()
""").end()  # fmt: skip
    run = server.run("p", "r")
    first = run.history[0]
    assert steps(server) == list(range(301))
    assert [row["_step"] for row in run.raw_history] == list(range(301))
    assert math.isnan(first["nan"])
    assert (first["up"], first["down"]) == (math.inf, -math.inf)
    assert run.history[7] == {"step": 7, "loss": 3.5}
    picture = run.files[run.history[300]["grid"]["path"]]
    assert picture.startswith(b"\x89PNG")
    assert (run.config, run.summary["loss"]) == ({"a": {"b": 1}}, 149.5)
    assert (run.name, run.group, run.notes, run.tags) == ("n", "g", "why", ["t"])
    assert (run.state, run.exit_code) == ("finished", 0)
    (artifact,) = run.artifacts
    assert (artifact.name, artifact.type, sorted(artifact.aliases)) == (
        "checkpoint:v0",
        "model",
        ["best", "latest"],
    )
    assert artifact.references == {"checkpoint": "s3://bucket/run/checkpoints/1"}
    assert artifact.metadata == {"url": "s3://bucket/run/checkpoints/1"}
    assert "config.yaml" in run.files


@pytest.mark.slow
@pytest.mark.system
def test_versions_are_one_per_digest_and_aliases_move(server: WandbServer, tmp_path: Path) -> None:
    out = Client(server, tmp_path, """
for _ in range(2):
    run = begin()
    for name in "ab":
        print(point(run, f"s3://bucket/{name}", ["best"]).wait().name)
    run.finish()
""").end()  # fmt: skip
    assert out.split() == ["checkpoint:v0", "checkpoint:v1"] * 2
    first, second = server.run("p", "r").artifacts
    assert (first.aliases, sorted(second.aliases)) == ([], ["best", "latest"])


@pytest.mark.slow
@pytest.mark.system
def test_the_public_api_reads_what_was_logged(server: WandbServer, tmp_path: Path) -> None:
    out = Client(server, tmp_path, """
run = begin()
log(run, 0, 20)
run.log({"step": 20, "nan": float("nan")}, step=20)
point(run, "s3://bucket/a", [])
run.finish(exit_code=3)
api = wandb.Api()
run = api.run("tester/p/r")
rows = list(run.scan_history())
print(json.dumps({
    "config": run.config, "last": run.lastHistoryStep, "state": run.state, "tags": run.tags,
    "loss": run.summary["loss"], "runs": [each.id for each in api.runs("tester/p")],
    "steps": [row["step"] for row in rows], "nan": rows[-1]["nan"],
    "with": len(list(run.scan_history(keys=["step", "loss"]))),
    "artifacts": [each.name for each in run.logged_artifacts()],
    "references": [e.ref for e in api.artifact("tester/p/checkpoint:latest").manifest.entries.values()],
}))
""").end()  # fmt: skip
    assert json.loads(out) == {
        "config": {"a": {"b": 1}}, "last": 20, "state": "failed", "tags": ["t"], "loss": 9.5,
        "steps": list(range(21)), "nan": "NaN", "with": 20, "runs": ["r"],
        "artifacts": ["checkpoint:v0"], "references": ["s3://bucket/a"],
    }  # fmt: skip
    assert server.run("p", "r").exit_code == 3


@pytest.mark.slow
@pytest.mark.system
def test_a_killed_client_goes_on_where_the_server_is(server: WandbServer, tmp_path: Path) -> None:
    """What was not sent when a client is killed is not sent later: a tracker must log it again."""
    killed = Client(
        server, tmp_path, 'run = begin()\nlog(run, 0, 100)\ntell("sent")\nlog(run, 100, 150)\ntell("late")'
    )
    killed.until("sent")
    until(lambda: len(steps(server)) >= 90)
    killed.go()
    killed.until("late")
    killed.process.kill()
    killed.process.wait()
    kept = len(steps(server))
    out = Client(
        server, tmp_path, "run = begin()\nprint(run.starting_step)\nlog(run, 0, 200)\nrun.finish()"
    ).end()
    assert int(out) == kept
    assert steps(server) == list(range(200))  # the rows before starting_step were ignored, not doubled
    assert server.operations().count("RunResumeStatus") == 2


@pytest.mark.slow
@pytest.mark.system
def test_a_server_that_dies_and_comes_back_gets_every_row_once(server: WandbServer, tmp_path: Path) -> None:
    client = Client(
        server, tmp_path, 'run = begin()\nlog(run, 0, 50)\ntell("begun")\nlog(run, 50, 300)\nrun.finish()'
    )
    client.until("begun")
    until(lambda: len(steps(server)) >= 40)
    server.stop()
    client.go()
    time.sleep(10)
    server.start()
    client.end()
    assert steps(server) == list(range(300))
    assert server.run("p", "r").state == "finished"


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.parametrize("how", [
    {"status": 429, "retry_after": 1, "times": 2}, {"status": 503, "times": 2},
    {"drop": "before", "times": 2},
    {"drop": "after", "times": 2}, {"hang_s": 3, "times": 1},
], ids=["429", "503", "cut", "answer-lost", "slow"])  # fmt: skip
def test_rows_are_whole_after_faults(server: WandbServer, tmp_path: Path, how: dict[str, Any]) -> None:
    fault = server.fault("file_stream", body=b"wandb-history", **how)
    Client(server, tmp_path, "run = begin()\nlog(run, 0, 100)\nrun.finish()").end()
    assert fault.met == how["times"]
    assert steps(server) == list(range(100))


@pytest.mark.slow
@pytest.mark.system
def test_after_a_refusal_the_client_sends_no_more_and_does_not_say(
    server: WandbServer, tmp_path: Path
) -> None:
    client = Client(
        server, tmp_path, 'run = begin()\nlog(run, 0, 50)\ntell("begun")\nrun.finish()\nprint("fine")'
    )
    client.until("begun")
    server.keys.clear()
    client.go()
    assert client.end().split() == ["fine"]
    assert server.run("p", "r").state == "running"


@pytest.mark.slow
@pytest.mark.system
def test_a_wrong_key_is_refused_at_init(server: WandbServer, tmp_path: Path) -> None:
    server.keys = {"f" * 40}
    out = Client(server, tmp_path, """
try:
    begin()
except wandb.errors.CommError as error:
    print("401" in str(error) and "not logged in" in str(error))
""").end()  # fmt: skip
    assert out.split() == ["True"]
    assert server.runs == {}


# Without the client.


def post(server: WandbServer, path: str, body: object, key: str = KEY) -> Any:
    secret = base64.b64encode(f"api:{key}".encode()).decode()
    asked = urllib.request.Request(f"{server.url}{path}", json.dumps(body).encode())
    asked.add_header("Authorization", f"Basic {secret}")
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.loads(answer.read())


UPSERT = 'mutation UpsertBucket($n: String) { upsertBucket(input: {name: $n, modelName: "p"}) { inserted } }'


def begin(server: WandbServer) -> Any:
    return post(server, "/graphql", {"query": UPSERT, "variables": {"n": "r"}})["data"]["upsertBucket"]


def stream(server: WandbServer, offset: int, *rows: dict[str, Any]) -> None:
    content = [json.dumps(row) for row in rows]
    chunk = {"wandb-history.jsonl": {"offset": offset, "content": content}}
    post(server, "/files/tester/p/r/file_stream", {"files": chunk})


def test_rows_sent_again_replace(server: WandbServer) -> None:
    assert begin(server) == {"inserted": True}
    stream(server, 0, {"step": 0, "_step": 0}, {"step": 1, "_step": 1})
    stream(server, 1, {"step": 1, "_step": 1}, {"step": 2, "_step": 2})
    assert server.run("p", "r").history == [{"step": 0}, {"step": 1}, {"step": 2}]
    assert server.run("p", "r").last_step == 2
    assert begin(server) == {"inserted": False}


def test_what_was_accepted_is_kept_for_the_next_process(tmp_path: Path) -> None:
    file = tmp_path / "requests.jsonl"
    command = [sys.executable, str(Path(__file__).parents[1] / "wandb_server.py"), "--file", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        other = WandbServer(port=int(process.stdout.readline().rpartition(":")[2]))
        begin(other)
        stream(other, 0, {"step": 0, "_step": 0})
        process.kill()
    with file.open("a") as torn:
        torn.write('\n["POST", "/files/tes')
    with WandbServer(port=other.port, file=file) as again:
        assert again.run("p", "r").history == [{"step": 0}]
        stream(again, 1, {"step": 1, "_step": 1})
    assert load(file).runs[("tester", "p", "r")].last_step == 1


def test_faults_end_by_number_or_by_hand(server: WandbServer) -> None:
    fault = server.fault("Upsert", status=503, times=1)
    with pytest.raises(urllib.error.HTTPError, match="503"):
        begin(server)
    assert begin(server) == {"inserted": True}
    assert fault.met == 1
    hanging = server.fault("Upsert", hang_s=60)
    thread = threading.Thread(target=begin, args=(server,))
    thread.start()
    until(lambda: hanging.met == 1)
    server.clear()
    thread.join(30)
    assert not thread.is_alive()
    assert server.operations() == ["UpsertBucket"] * 3


def test_a_key_that_is_not_known_is_refused(server: WandbServer) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        post(server, "/graphql", {"query": UPSERT, "variables": {"n": "r"}}, key="f" * 40)
    assert server.requests[0].key == "f" * 40
    assert server.runs == {}


def test_a_stopped_server_cuts_connections_and_keeps_its_port(server: WandbServer) -> None:
    begin(server)
    port = server.port
    server.stop()
    with pytest.raises(urllib.error.URLError):
        begin(server)
    assert server.start().port == port
    assert begin(server) == {"inserted": False}


def test_graphql_reads_what_the_client_writes() -> None:
    text = """#graphql
    query Q($name: String = "d", $skip: Boolean!) {
        one: item(name: $name, list: [1, {deep: "x,y # z"}], kind: FULL) { ...F hidden @include(if: $skip) }
        none { a }
    }
    fragment F on Item { arguments ... on Item { gone } }
    """
    unknown: set[str] = set()
    root = {"item": lambda **given: {"arguments": given, "hidden": 1}, "none": None}
    told = execute(text, {"skip": False}, root, unknown)
    given = {"name": "d", "list": [1, {"deep": "x,y # z"}], "kind": "FULL"}
    assert told == {"one": {"arguments": given, "gone": None}, "none": None}
    assert unknown == {"gone"}


def test_operation_names() -> None:
    body = json.dumps({"query": "query Run($a: String) { viewer { id } }"}).encode()
    assert Request("POST", "/graphql", body, 0.0).operation == "Run"
    assert Request("POST", "/files/e/p/r/file_stream", b"{}", 0.0).operation == "/files/e/p/r/file_stream"
