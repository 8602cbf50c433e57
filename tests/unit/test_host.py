"""The agent of a host: what makes it leave, in which order it does so, and what clouds say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lehr.cli.app import application
from lehr.errors import UserError
from lehr.launch import spot

# In the place of `ray start --block`: notes what happens to it, and has a "worker" for a while.
RAY = """#!{python}
import os, signal, subprocess, sys, time
def note(text):
    with open(os.environ["NOTES"], "a") as file:
        file.write(text + "\\n")
def end(*_):
    note("ray ends")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
note("ray " + " ".join(sys.argv[1:]))
sleep = "import os, time; time.sleep(float(os.environ['WORK_S'])); "
sleep += "print('work is done', file=open(os.environ['NOTES'], 'a'))"
# A command line as a worker's of Ray, which renames its process.
work = subprocess.Popen(["ray::RayTrainWorker", "-c", sleep], executable=sys.executable)
note("up")
while work.poll() is None:
    time.sleep(0.05)
if "CODE" in os.environ:
    sys.exit(int(os.environ["CODE"]))
while True:
    time.sleep(1)
"""
AGENT = """
import os, sys
from pathlib import Path
from lehr.launch import host, spot

host.LOOK_S = 0.1
host.sys = type("here", (), {{"executable": {folder!r} + "/python"}})
def drain(*words):
    with open(os.environ["NOTES"], "a") as file:
        file.write("told the cluster\\n")
host.node = lambda pid: ("10.0.0.1:6379", "ab12")
host.drain = drain
host._load = lambda: None
cloud = spot.CLOUDS[sys.argv[2]] if len(sys.argv) > 2 else None
say = lambda text: print(text, file=sys.stderr, flush=True)
sys.exit(host.Agent(["--head"], notice_s=float(sys.argv[1]), say=say, cloud=cloud).run())
"""


class Kept:
    """An agent over such a Ray."""

    def __init__(self, folder: Path, notice_s: float, *words: str, work_s: float, **environment: str) -> None:
        ray = folder / "ray"
        ray.write_text(RAY.format(python=sys.executable))
        ray.chmod(0o755)
        self._notes = folder / "notes"
        env = os.environ | {"NOTES": str(self._notes), "WORK_S": str(work_s)} | environment
        program = AGENT.format(folder=str(folder))
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, str(notice_s), *words], env=env, stderr=subprocess.PIPE, text=True
        )
        while "up" not in self.notes():
            assert self.process.poll() is None
            time.sleep(0.05)

    def notes(self) -> list[str]:
        return self._notes.read_text().splitlines() if self._notes.exists() else []

    def end(self) -> tuple[int, str]:
        """Its exit code, and what it said."""
        said = self.process.communicate(timeout=120)[1]
        return self.process.returncode, said


@pytest.mark.system
def test_told_to_end_it_tells_the_cluster_waits_for_the_work_and_ends_ray(tmp_path: Path) -> None:
    kept = Kept(tmp_path, 100.0, work_s=2.0)
    began = time.monotonic()
    kept.process.send_signal(signal.SIGTERM)
    code, said = kept.end()
    assert code == 0
    assert time.monotonic() - began < 90.0  # not the whole notice
    assert kept.notes() == ["ray start --head --block", "up", "told the cluster", "work is done", "ray ends"]
    assert "leaving within 100 s" in said
    assert "still at work" not in said


@pytest.mark.system
def test_notice_is_kept_although_work_goes_on(tmp_path: Path) -> None:
    kept = Kept(tmp_path, 3.0, work_s=1000.0)
    kept.process.send_signal(signal.SIGTERM)
    code, said = kept.end()
    assert code == 0
    assert kept.notes()[-1] == "ray ends"
    assert "still at work, and ended: ray::RayTrainWorker" in said


@pytest.mark.system
def test_second_signal_ends_ray_at_once(tmp_path: Path) -> None:
    kept = Kept(tmp_path, 1000.0, work_s=1000.0)
    for _ in range(2):
        kept.process.send_signal(signal.SIGINT)
        time.sleep(1.0)
    assert kept.end()[0] == 0
    assert "work is done" not in kept.notes()


@pytest.mark.system
def test_end_of_ray_is_the_end_of_the_agent(tmp_path: Path) -> None:
    code, said = Kept(tmp_path, 30.0, work_s=0.1, CODE="3").end()
    assert code == 1
    assert "Ray has ended by itself, with exit code 3" in said


# --- clouds ---------------------------------------------------------------------------------------


class Metadata(BaseHTTPRequestHandler):
    """What both clouds' services say; `action` and `preempted` are set by tests."""

    action, preempted = b"", b"FALSE"

    def do_PUT(self) -> None:
        is_asked = self.path == "/latest/api/token" and "X-aws-ec2-metadata-token-ttl-seconds" in self.headers
        self._answer(200 if is_asked else 400, b"secret")

    def do_GET(self) -> None:
        if self.path == "/latest/meta-data/spot/instance-action":
            if self.headers.get("X-aws-ec2-metadata-token") != "secret":
                return self._answer(401, b"")
            return self._answer(200 if self.action else 404, self.action)
        if self.path == "/computeMetadata/v1/instance/preempted":
            is_asked = self.headers.get("Metadata-Flavor") == "Google"
            return self._answer(200 if is_asked else 403, self.preempted)
        return self._answer(404, b"")

    def _answer(self, code: int, text: bytes) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Metadata]]:
    monkeypatch.setattr(Metadata, "action", b"")
    monkeypatch.setattr(Metadata, "preempted", b"FALSE")
    with ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv(spot.AWS_ENDPOINT, f"http://{place}")
        monkeypatch.setenv(spot.GCP_HOST, place)
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # never asked
        yield Metadata
        server.shutdown()


def test_clouds_say_nothing_of_a_machine_that_stays(metadata: type[Metadata]) -> None:
    assert (spot.aws(), spot.gcp()) == (None, None)


def test_aws_says_when(metadata: type[Metadata]) -> None:
    metadata.action = b'{"action": "terminate", "time": "2026-11-21T08:22:00Z"}'
    assert spot.aws() == 1795249320.0


@pytest.mark.parametrize("said", [b"soon", b"{}", b'{"time": 5}', b"[]"])
def test_what_aws_never_says_is_no_notice(said: bytes, metadata: type[Metadata]) -> None:
    metadata.action = said
    with pytest.raises(OSError, match="metadata service says"):
        spot.aws()


def test_google_gives_thirty_seconds(metadata: type[Metadata]) -> None:
    metadata.preempted = b"TRUE\n"
    until = spot.gcp()
    assert until is not None
    assert 0.0 < until - time.time() <= 30.0


@pytest.mark.parametrize("cloud", spot.CLOUDS)
def test_service_that_is_not_there_is_told(cloud: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(spot.AWS_ENDPOINT, "http://127.0.0.1:9")
    monkeypatch.setenv(spot.GCP_HOST, "127.0.0.1:9")
    with pytest.raises(OSError, match="refused"):
        spot.CLOUDS[cloud]()


@pytest.mark.system
def test_clouds_notice_makes_the_agent_leave(metadata: type[Metadata], tmp_path: Path) -> None:
    kept = Kept(tmp_path, 1000.0, "gcp", work_s=1.0)
    assert "told the cluster" not in kept.notes()
    metadata.preempted = b"TRUE"
    assert kept.end()[0] == 0
    assert kept.notes()[2:] == ["told the cluster", "work is done", "ray ends"]


def test_half_an_answer_of_the_service_is_told(
    metadata: type[Metadata], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(self: Metadata, code: int, text: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(text)

    monkeypatch.setattr(Metadata, "_answer", answer)
    with pytest.raises(OSError, match="broke off"):
        spot.gcp()


# --- the first process of a container -------------------------------------------------------------


ORPHANS = """
import ctypes, subprocess, time
import psutil
from lehr.launch import host
ctypes.CDLL(None).prctl(36, 1)  # orphans below come to this process, as they come to a container's first
own = subprocess.Popen(["sleep", "1000"])
subprocess.run(["sh", "-c", "sleep 0.2 & sleep 0.3 &"], check=True)
until = time.monotonic() + 60
assert len(psutil.Process().children()) == 3
while len(psutil.Process().children()) > 1 and time.monotonic() < until:
    host.reap(own.pid)
    time.sleep(0.05)
assert [each.pid for each in psutil.Process().children()] == [own.pid]
own.kill()
time.sleep(0.2)
host.reap(own.pid)
assert own.wait() == -9
"""


def test_orphans_are_collected_and_the_own_child_is_left_to_its_parent() -> None:
    subprocess.run([sys.executable, "-c", ORPHANS], check=True, timeout=120)


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "neither --head nor --address"),
        (["--head", "--address", "h1:6379"], "neither --head nor --address"),
        (["--head", "--watch", "azure"], "--watch: came 'azure'\n  accepted: aws or gcp"),
    ],
)
def test_mistakes_are_told(words: list[str], said: str) -> None:
    raised = CliRunner().invoke(application(), ["host", *words]).exception
    assert isinstance(raised, UserError)
    assert said in str(raised)
