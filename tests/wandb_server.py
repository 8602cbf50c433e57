"""A loopback server that speaks the part of W&B's API which W&B's own client uses.

W&B's server cannot run here. This one was built by watching the client (the package `wandb` 0.31.0: Python
and its Go program, wandb-core): its requests were logged and answered until everything that lehr needs
worked. So it shows what the client does; what W&B's own server does with the same requests is known from
the client's code and W&B's pages only. That concerns above all: lines sent again replace those at the same
offset; a digest that a collection has gives the version that has it; an alias is on one version; `latest`
goes to the newest.

Covered: begin and resume a run, history, summary, events and output as streams, files and pictures by PUT,
artifacts (by reference, or with files of one part), the reads of `wandb.Api()` for runs, history, files and
artifacts, `wandb sync`, keys. Not covered: sweeps, registries, launch, alerts, forks and rewinds, pages of
more than one, sampling, filters, deletion, teams and permissions, multipart uploads; and a run that nobody
ends stays `running` here, where W&B calls it crashed after some minutes. A field that is not there is
answered with null and named in `WandbServer.unknown`, which a test asserts to be empty.

    with WandbServer() as server:
        environment |= server.environment               # WANDB_BASE_URL, WANDB_API_KEY
        server.fault("file_stream", status=429, retry_after=1, times=3)
        server.stop(); server.start()                   # it dies, and comes back knowing all
        server.keys.clear()                             # the key has expired
        server.run("project", "id").history             # a copy: .config .summary .files .artifacts ...

    python tests/wandb_server.py --port 0 --file requests.jsonl     # prints its URL; may be killed

What the client was seen to do, 0.31.0, seconds on two busy cores:

Rows
- `run.log` never waits for the network: at most some milliseconds a row, whether the server is away, hangs
  or refuses (the first row of a process 0.1 to 0.4 s).
- History is sent about 15 s after the first row that waits, and at finish; after so many seconds as
  WANDB__FILE_STREAM_TRANSMIT_INTERVAL says (`x_file_stream_transmit_interval` in Settings changed nothing).
- `log(..., step=n)`: a row of W&B's is held until a greater step, or finish. A step below the current one
  is dropped, with a warning on standard error even under `silent`. Rows of the same step are merged into
  one.
- NaN and infinities come bare in history lines, and as the words "NaN", "Infinity" in the summary.

Resume (`resume="allow"`)
- `run.starting_step` is the server's last `_step` + 1, for a new run 0. `run.step` says 0 until the first
  row.
- With explicit steps, a replay of all rows on resume doubles nothing: those below `starting_step` are
  dropped.
- Nothing is sent again: rows that a client did not get sent are only in its `.wandb` file (`wandb sync`
  sends them).
- A client that ends by kill -9 or SIGTERM takes wandb-core with it in 0.1 s; unsent rows never reach the
  server.
- wandb-core killed alone: `run.log` raises ConnectionResetError, and so does the teardown at exit.

Server away (port closed) or hanging
- at init: `wandb.CommError` after `init_timeout` + 0.3 s; `teardown` then takes 0.1 s and leaves no
  process. It tries again within that time, so a server that comes back in time is used. Three 503s in a row
  cost 17 s, 429s their Retry-After.
- later: it retries. An outage of 10 s ended with all rows, each once; finish returned 8 s after the last
  row. After an outage of 40 s the retries were so far apart that finish took another 37 s.
- `finish` without `finish_timeout` waits for ever. With it: finish_timeout + 0.1 s, a warning, no error
  (unless `finish_timeout_raises`: TimeoutError), and the rest is lost to the server. The same bound holds
  at exit without finish. No wandb-core was left behind in any case.
- `log_artifact` does wait: for a read of the artifact's type, at most WANDB_HTTP_TIMEOUT (19 s by default).
  The first of a run raises AuthenticationError then; later ones return and are sent when the server is
  back. `wait()` waits for the commit.
- `Artifact.add_reference("s3://...")` needs boto3, even with checksum=False. An entry that is added to
  `artifact.manifest` needs nothing, and is the same.

Refused
- 401 at init: CommError after 0.3 s, with "401" and "user is not logged in" in its text.
- 401 or 403 on a stream later: sending ends for good at the first one, with one warning on standard error.
  `run.log` and `finish` go on as if all was well, `finish` returns in 0.1 s even with
  `finish_timeout_raises`. Only asking the server (`wandb.Api().run(...).lastHistoryStep`) tells.
- 429, 5xx, a cut connection, a lost answer: retried, rows whole and each once.

Two clients of one run at once overwrite each other's lines: offsets are counted by each client.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import copy
import gzip
import json
import re
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lehr.tracking import wandb
from wandb_runs import ENTITY, Answer, Artifact, Key, Request, Run
from wandb_state import State

__all__ = [
    "ENTITY", "KEY", "Answer", "Artifact", "Fault", "Request", "Run", "State", "WandbServer", "load",
    "serving",
]  # fmt: skip

KEY = "0123456789abcdef" * 2 + "01234567"  # a key that it takes; any other is refused unless named in `keys`


@dataclass
class Fault:
    """What happens to requests whose operation or path `pattern` is found in, and whose body has `body`.

    `status` is answered in place of the true answer; `hang_s` waits before anything else; `drop` closes the
    connection without an answer, and with `drop="after"` the request was accepted. `times` is how many
    requests it happens to; None means all, until `clear`.
    """

    pattern: str
    status: int | None = None
    retry_after: float | None = None
    hang_s: float = 0.0
    drop: str | None = None
    times: int | None = None
    body: bytes = b""
    met: int = 0

    def meets(self, request: Request) -> bool:
        spent = self.times is not None and self.met >= self.times
        spent = spent or self.body not in request.body
        return not spent and re.search(self.pattern, f"{request.operation} {request.path}") is not None


_REFUSED = {
    "errors": [{"message": "user is not logged in", "path": [], "extensions": {"code": "PERMISSION_ERROR"}}],
    "data": None,
}


class WandbServer:
    """The server in a thread, with what it was told: `with WandbServer() as server: ...`.

    `stop()` is what a client sees of a server that dies: no port, and open connections cut. `start()` takes
    the same port again, with all that it knew. With `file` every accepted request is kept there before it is
    answered, so that another process, or one that was killed, starts with the same state.

    Attributes:
        keys: API keys that are taken; remove one and it has expired.
        requests: all that came, in order, refused ones too.
        errors: what went wrong in the server itself; a test asserts that there is none.
    """

    def __init__(self, *, port: int = 0, file: Path | None = None, state: State | None = None) -> None:
        self.keys = {KEY}
        self.requests: list[Request] = []
        self.errors: list[str] = []
        self.port = port
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._sockets: set[Any] = set()
        self._http: ThreadingHTTPServer | None = None
        self._file = file
        self._state = state or load(file)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to find it."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY}

    @property
    def runs(self) -> dict[Key, Run]:
        """A copy of all runs, by (entity, project, id)."""
        with self._lock:
            return copy.deepcopy(self._state.runs)

    def run(self, project: str, id: str, entity: str = ENTITY) -> Run:
        """A copy of one run."""
        with self._lock:
            return copy.deepcopy(self._state.runs[(entity, project, id)])

    @property
    def unknown(self) -> set[str]:
        """Fields that clients asked for and that are not there."""
        return set(self._state.unknown)

    def operations(self) -> list[str]:
        """The operation or path of each request, in order."""
        return [request.operation for request in list(self.requests)]

    def fault(self, pattern: str, **how: Any) -> Fault:
        """From now on this happens; see `Fault`."""
        fault = Fault(pattern, **how)
        self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """No faults any more; requests that hang go on."""
        self._faults.clear()

    def start(self) -> WandbServer:
        if self._http is not None:
            return self
        self._stopped.clear()
        self._http = _Listener(("127.0.0.1", self.port), _handler(self))
        self.port = self._http.server_port
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        if self._http is None:
            return
        self._stopped.set()
        self._http.shutdown()
        self._http.server_close()
        self._http = None
        for connection in list(self._sockets):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> WandbServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def respond(self, request: Request) -> Answer | None:
        """The answer, or None for none at all."""
        with self._lock:
            self.requests.append(request)
            fault = next((fault for fault in list(self._faults) if fault.meets(request)), None)
            if fault is not None:
                fault.met += 1
        if fault is None:
            return self._accept(request)
        self._hang(fault)
        if self._stopped.is_set() or fault.drop == "before":
            return None
        if fault.status is not None:
            headers = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
            return Answer(fault.status, b'{"error":"on demand"}', headers)
        answer = self._accept(request)
        return None if fault.drop == "after" else answer

    def _hang(self, fault: Fault) -> None:
        end = time.monotonic() + fault.hang_s
        while fault in self._faults and time.monotonic() < end and not self._stopped.wait(0.05):
            pass

    def _accept(self, request: Request) -> Answer:
        if not request.path.startswith(("/storage/", "/sdk/")) and request.key not in self.keys:
            return Answer(401, json.dumps(_REFUSED).encode())
        try:
            with self._lock:
                answer = self._state.answer(request, self.url)
                self._keep(request)
            return answer
        except Exception:
            self.errors.append(traceback.format_exc())
            return Answer(500, b'{"error":"the test server is wrong"}')

    def _keep(self, request: Request) -> None:
        if self._file is not None and _changes(request):
            body = base64.b64encode(request.body).decode()
            row = [request.method, request.path, body, request.time]
            with self._file.open("a") as file:
                file.write("\n" + json.dumps(row))  # the newline first: the line before may be torn


def _changes(request: Request) -> bool:
    if request.path == "/graphql":
        return str(request.json()["query"]).lstrip().startswith("mutation")
    return request.method != "GET" and not request.path.startswith("/sdk/")


def load(file: Path | None) -> State:
    """What a server that kept its requests in `file` knows."""
    state = State()
    for line in file.read_text().splitlines() if file is not None and file.exists() else []:
        with contextlib.suppress(ValueError):  # the last line, of a server that was killed
            method, path, body, when = json.loads(line)
            state.answer(Request(method, path, base64.b64decode(body), when), "")
    return state


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        return None  # a client that went away


def _handler(server: WandbServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            server._sockets.add(self.connection)

        def finish(self) -> None:
            server._sockets.discard(self.connection)
            with contextlib.suppress(OSError):
                super().finish()

        def respond(self) -> None:
            answer = server.respond(self.read())
            if answer is None:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = do_PUT = respond

        def read(self) -> Request:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            return Request(self.command, self.path, body, time.time(), self.key())

        def key(self) -> str | None:
            kind, _, secret = (self.headers.get("Authorization") or "").partition(" ")
            return base64.b64decode(secret).decode().partition(":")[2] if kind == "Basic" else None

        def log_message(self, *_: object) -> None:
            return None

    return Handler


@contextlib.contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[WandbServer]:
    """A server that W&B's client in this process finds, with temporary files below `folder`."""
    (folder / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(folder / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", str(folder / "tmp"))
    with WandbServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server
        wandb.end_service()
        assert server.errors == []


def main() -> None:
    """Serve until the process ends."""
    parser = argparse.ArgumentParser(description="A loopback server for W&B's client, for tests.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--file", type=Path, help="keeps what it is told, and starts with it")
    asked = parser.parse_args()
    server = WandbServer(port=asked.port, file=asked.file).start()
    print(server.url, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
