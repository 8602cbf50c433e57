"""The gate before W&B: open, all passes as it is; closed, nothing does."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import jobs
from lehr.chaos import gate, surroundings
from lehr.chaos.faults import TrackerDown
from lehr.errors import UserError

BODY = bytes(range(256)) * 300


class Behind(BaseHTTPRequestHandler):
    """Answers with what it was asked."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str, str | None, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.seen.append((self.command, self.path, self.headers.get("Authorization"), body))
        self.send_response(201 if self.command == "POST" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Told", "this")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_PUT = do_HEAD = do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def behind() -> Iterator[str]:
    Behind.seen = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Behind)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def connection(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)


def ask(client: http.client.HTTPConnection, body: bytes = b"") -> bytes:
    client.request("POST", "/", body)
    return client.getresponse().read()


def test_open_everything_passes(behind: str) -> None:
    with gate.before(f"{behind}/base/", lambda: False) as url:
        client = connection(url)
        for chunked in (False, True):
            body = iter([BODY[:1000], BODY[1000:]]) if chunked else BODY
            client.request("POST", "/graphql?a=b", body, {"Authorization": "Basic k"}, encode_chunked=chunked)
            answer = client.getresponse()
            assert (answer.status, answer.headers["X-Told"], answer.read()) == (201, "this", BODY)
        client.request("HEAD", "/file")
        answer = client.getresponse()
        assert (answer.status, answer.read()) == (404, b"")
        client.request("PUT", "/file", b"")
        assert client.getresponse().read() == b""
    asked = [f"{verb} {path}" for verb, path, _, _ in Behind.seen]
    assert asked == [*["POST /base/graphql?a=b"] * 2, "HEAD /base/file", "PUT /base/file"]
    assert Behind.seen[0][2:] == Behind.seen[1][2:] == ("Basic k", BODY)


def test_closed_nothing_passes_not_even_on_an_open_connection(behind: str) -> None:
    closed = threading.Event()
    with gate.before(behind, closed.is_set) as url:
        client = connection(url)
        assert ask(client, b"1") == b"1"
        closed.set()
        for each in (client, connection(url)):
            with pytest.raises((http.client.HTTPException, OSError)):
                ask(each, b"2")
        closed.clear()
        assert ask(connection(url), b"3") == b"3"
    assert [body for *_, body in Behind.seen] == [b"1", b"3"]


def test_what_is_not_there_behind_is_not_there_before() -> None:
    gone = pytest.raises((http.client.HTTPException, OSError))
    with surroundings.nobody() as nowhere, gate.before(nowhere, lambda: False) as url, gone:
        ask(connection(url))


def test_a_time_without_wandb_needs_a_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    plan = jobs.plan(jobs.EBM, "tracking.wandb={project: p}")
    assert surroundings.api_key(plan, [TrackerDown()]) is None
    with pytest.raises(UserError, match="there is no key for it"):
        surroundings.api_key(plan, [TrackerDown(30.0, 2)])
    monkeypatch.setenv("WANDB_API_KEY", "given")
    assert surroundings.api_key(plan, [TrackerDown(30.0, 2)]) == "given"
    assert surroundings.api_key(plan, [TrackerDown()]) is None
