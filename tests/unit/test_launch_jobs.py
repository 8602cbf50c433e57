"""Runs as jobs of a cluster, against a server that answers as a dashboard of Ray does."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import jobs as small
import lehr
from lehr import spec as specs
from lehr.errors import LaunchError, UserError
from lehr.launch import jobs, parcels, places
from lehr.launch.addresses import Address
from lehr.launch.dashboard import Dashboard
from lehr.launch.jobs import Job, Jobs, Submission


class Board:
    """What the server knows, and how it misbehaves."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.packages: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.headers: list[str | None] = []
        self.hosts: list[str] = []
        self.lost = 0  # answers to submissions that do not arrive
        self.code = 0  # answered to everything, if set
        self.lock = threading.Lock()

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if self.code:
            return self.code, b"no"
        if path.startswith("/api/packages/gcs/"):
            return self._package(method, path.rpartition("/")[2], body)
        if path.startswith("/nodes"):
            return 200, json.dumps({"data": {"hostNameList": self.hosts}}).encode()
        if method == "POST" and path == "/api/jobs/":
            return self._submit(json.loads(body))
        if path == "/api/jobs/":
            return 200, json.dumps([*self.jobs.values(), {"type": "DRIVER", "status": "RUNNING"}]).encode()
        found = self.jobs.get(path.split("/")[3])
        return (200, json.dumps(found).encode()) if found else (404, b"does not exist")

    def _package(self, method: str, name: str, body: bytes) -> tuple[int, bytes]:
        if method == "PUT":
            self.packages[name] = body
        return (200, b"") if name in self.packages else (404, b"does not exist")

    def _submit(self, document: dict[str, Any]) -> tuple[int, bytes]:
        name = document["submission_id"]
        with self.lock:
            if name in self.jobs:
                return 400, f"ValueError: Job with submission_id {name} already exists. Please".encode()
            self.jobs[name] = {**document, "type": "SUBMISSION", "status": "PENDING", "start_time": 1000}
            if self.lost:
                self.lost -= 1
                return 0, b""
        return 200, json.dumps({"submission_id": name}).encode()

    def end(self, job: str, status: str = "FAILED") -> None:
        self.jobs[job] |= {"status": status, "end_time": 2000}


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def cluster(board: Board, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            board.requests.append((self.command, self.path))
            board.headers.append(self.headers.get("Authorization"))
            code, told = board.answer(self.command, self.path, body)
            if code:
                self.send_response(code)
                self.send_header("Content-Length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)

        do_POST = do_PUT = do_GET

        def log_message(self, *_: object) -> None: ...

    monkeypatch.setenv("RAY_AUTH_TOKEN", "a-token")
    monkeypatch.setattr(jobs, "RETRY_S", 0.01)

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # many come at once, and a full queue resets them

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Jobs(Address(f"http://127.0.0.1:{server.server_port}"))
    server.shutdown()
    server.server_close()


def wanted(run: str = "ebm") -> Submission:
    return Submission(run, "s3://bucket/runs", "true", parcels.job("version: 1"))


def files(parcel: parcels.Parcel) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(parcel.data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_run_is_submitted_under_its_name(cluster: Jobs, board: Board) -> None:
    assert cluster.submit(wanted()).id == "ebm.1"
    sent = board.jobs["ebm.1"]
    assert sent["metadata"]["lehr_run"] == "ebm"
    assert sent["runtime_env"]["working_dir"] == wanted().folder.uri
    assert "py_modules" not in sent["runtime_env"]
    assert board.packages == {wanted().folder.name: wanted().folder.data}
    assert set(board.headers) == {"Bearer a-token"}


def test_equal_content_is_sent_once(cluster: Jobs, board: Board) -> None:
    cluster.submit(wanted())
    cluster.submit(wanted("other"))
    assert [method for method, path in board.requests if "packages" in path] == ["GET", "PUT", "GET"]


def test_run_that_is_alive_is_refused_until_it_is_dead(cluster: Jobs, board: Board) -> None:
    cluster.submit(wanted())
    with pytest.raises(UserError) as refused:
        cluster.submit(wanted())
    assert str(refused.value).startswith(
        "run ebm: it is on the cluster already, as job ebm.1, pending since 1970"
    )
    assert "--run ebm-2" in str(refused.value)
    board.end("ebm.1")
    assert cluster.submit(wanted()).id == "ebm.2"


def test_of_many_at_once_one_wins_and_the_others_see_it(cluster: Jobs, board: Board) -> None:
    won, lost = [], []

    def submit() -> None:
        try:
            won.append(cluster.submit(wanted()).id)
        except UserError as error:
            lost.append(str(error))

    threads = [threading.Thread(target=submit) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == ["ebm.1"] == list(board.jobs)
    assert len(lost) == 19
    assert all("already, as job ebm.1" in letter for letter in lost)


def test_submission_whose_answer_was_lost_is_known_by_its_ticket(cluster: Jobs, board: Board) -> None:
    board.lost = 1
    assert cluster.submit(wanted()).id == "ebm.1"
    assert list(board.jobs) == ["ebm.1"]


def test_runs_whose_names_begin_alike_are_two(cluster: Jobs) -> None:
    cluster.submit(wanted("ebm"))
    assert cluster.submit(wanted("ebm.1")).id == "ebm.1.1"
    assert [job.id for job in cluster.of("ebm")] == ["ebm.1"]


def test_jobs_of_others_are_left_out(cluster: Jobs, board: Board) -> None:
    board.jobs["raysubmit_1"] = {"type": "SUBMISSION", "submission_id": "raysubmit_1", "status": "RUNNING"}
    board.jobs["ebm.7"] = board.jobs["raysubmit_1"] | {"submission_id": "ebm.7"}
    assert cluster.all() == []
    assert cluster.get("ebm.7") is None
    assert cluster.get("none.1") is None


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (401, UserError, "the cluster asks for a token"),
        (403, UserError, "does not take the token of RAY_AUTH_TOKEN"),
        (302, LaunchError, "it sends elsewhere"),
        (404, LaunchError, "no dashboard of Ray"),
        (500, LaunchError, "the cluster could not do it (HTTP 500: no)"),
    ],
)
def test_refusal_is_one_letter(
    code: int, kind: type[Exception], said: str, cluster: Jobs, board: Board
) -> None:
    board.code = code
    with pytest.raises(kind) as refused:
        cluster.all()
    assert said in str(refused.value)
    assert "a-token" not in str(refused.value)


def test_relative_folder_becomes_whole_where_the_cluster_is_this_machine(
    cluster: Jobs, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    board.hosts = ["here"]
    job = specs.parse(small.EBM, sets=["data.root=~/digits"])
    assert places.settled(job, cluster.dashboard) == [
        f"storage={json.dumps(str(Path('runs').absolute()))}",
        f"data.root={json.dumps(str(Path('~/digits').expanduser()))}",
    ]


def test_folder_keeps_its_name_in_any_letters(
    cluster: Jobs, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    board.hosts = ["here"]
    named = ["storage=run-ä-\U0001f600"]
    sets = places.settled(specs.parse(small.EBM, sets=named), cluster.dashboard)
    settled = specs.parse(small.EBM, sets=[*named, *sets])
    assert settled.storage == str(Path("run-ä-\U0001f600").absolute())


@pytest.mark.parametrize("host", ["..", "head..example.com", "a" * 70])
def test_host_that_can_have_no_address_is_told(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a-token")
    with pytest.raises(LaunchError, match="nobody answers there"):
        Jobs(Address(f"http://{host}:8265")).all()


def test_slow_way_up_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent may take longer in all than an answer may."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a-token")
    data, pause_s = bytes(16 << 20), 0.2

    def take(listening: socket.socket) -> None:
        taken, _ = listening.accept()
        with taken, taken.makefile("rb") as came:
            while came.readline().strip():
                pass
            for _ in range(16):
                came.read(1 << 20)
                time.sleep(pause_s)
            taken.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        threading.Thread(target=take, args=(listening,), daemon=True).start()
        address = Address(f"http://127.0.0.1:{listening.getsockname()[1]}")
        answer = Dashboard(address, answer_s=10 * pause_s).ask("PUT", "/api/packages/gcs/x.zip", data=data)
    assert answer.code == 200


def test_relative_folder_is_refused_behind_a_tunnel_and_elsewhere(
    cluster: Jobs, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    board.hosts = ["here", "there"]
    with pytest.raises(UserError, match=r"storage: runs is a folder of this machine.*\(there\)"):
        places.settled(specs.parse(small.EBM), cluster.dashboard)
    elsewhere = Jobs(Address("http://head.example.com:8265")).dashboard
    with pytest.raises(UserError, match=r"head\.example\.com"):
        places.settled(specs.parse(small.EBM), elsewhere)
    assert places.settled(specs.parse(small.EBM, sets=["storage=/shared/runs"]), elsewhere) == []
    assert places.settled(specs.parse(small.EBM, sets=["storage=s3://bucket/runs"]), elsewhere) == []
    with pytest.raises(UserError, match="memory"):
        places.settled(specs.parse(small.EBM, sets=["storage=memory://runs"]), elsewhere)


def test_job_file_travels_with_the_users_modules(tmp_path: Path) -> None:
    package = tmp_path / "mine"
    (package / "__pycache__").mkdir(parents=True)
    (package / "model.py").write_text("x = 1")
    (package / "__pycache__" / "model.pyc").write_text("")
    (tmp_path / "single.py").write_text("y = 2")
    sent = files(parcels.job("version: 1", [str(package), str(tmp_path / "single.py")]))
    assert sent == {"job.yaml": b"version: 1", "mine/model.py": b"x = 1", "single.py": b"y = 2"}
    for wrong in (tmp_path / "none", tmp_path / "mine" / ".." / "single.py"):
        with pytest.raises(UserError, match="--with"):
            parcels.job("version: 1", [str(tmp_path / "single.py"), str(wrong)])


def test_what_looks_like_secrets_stays_here_and_is_named(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    secret = [
        ".env",
        ".env.local",
        "deep/id_rsa",
        "deep/server.PEM",
        "credentials",
        "credentials.json",
        ".aws/config",
    ]
    plain = ["model.py", "credentials.py", "environment.yaml", "deep/keys.txt"]
    for name in [*secret, *plain]:
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_text("x")
    parcel = parcels.job("version: 1", [str(mine)])
    assert sorted(files(parcel)) == sorted(["job.yaml", *(f"mine/{name}" for name in plain)])
    assert sorted(parcel.withheld) == sorted(f"mine/{name}" for name in secret)
    named = parcels.job("version: 1", [str(mine / ".env")])
    assert (sorted(files(named)), named.withheld) == ([".env", "job.yaml"], ()), "who names a file means it"


def test_content_alone_makes_the_name(tmp_path: Path) -> None:
    assert parcels.job("a: 1").uri == parcels.job("a: 1").uri != parcels.job("a: 2").uri


def test_shipped_package_is_the_one_that_runs() -> None:
    sent = files(parcels.package())
    assert sent["lehr/__init__.py"] == Path(lehr.__file__).read_bytes()
    assert "lehr/py.typed" in sent
    assert not [name for name in sent if "__pycache__" in name]


def test_driver_is_lehr_run_and_has_time_to_stop() -> None:
    plan = small.plan(small.EBM, "recovery.max_unsaved_minutes=2", run_id="a-run")
    sent = jobs.submission(plan, specs.text(plan.spec), ship=True)
    assert sent.entrypoint == "exec python -m lehr run job.yaml --run a-run --address auto"
    assert sent.environment == {"RAY_JOB_STOP_WAIT_TIME_S": "420"}
    assert [parcel.uri for parcel in sent.modules] == [parcels.package().uri]
    assert specs.parse(files(sent.folder)["job.yaml"].decode()) == plan.spec


def test_folder_of_data_does_not_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data.bin").write_bytes(bytes(2000))
    monkeypatch.setattr(parcels, "UNPACKED", 1000)
    with pytest.raises(UserError, match="at most 100 MiB"):
        parcels.job("version: 1", [str(tmp_path)])


def test_talking_to_a_cluster_does_not_load_ray() -> None:
    """It takes longer than all that is said."""
    modules = "submit, known, wishes, stop, list"
    program = f"from lehr.cli import {modules}\nfrom lehr.launch import jobs, tail, places\n"
    program += "import sys\nprint([name for name in ('ray', 'tensorflow') if name in sys.modules])"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


def test_exit_code_is_that_of_lehr_run() -> None:
    from lehr.cli.submit import exit_code

    told = [("SUCCEEDED", 0), ("SUCCEEDED", None), ("FAILED", 2), ("FAILED", None), ("STOPPED", None)]
    found = [exit_code(Job("a.1", "a", 1, status, exit_code=code)) for status, code in told]
    assert found == [0, 0, 2, 1, 143]
