"""A gate before W&B: what workers send passes through it; while a fault lasts, it cuts every connection."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from email.message import Message
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

PATIENCE_S = 60.0  # with W&B
# Headers that are about one connection, not about what is sent; bodies are sent on whole.
_OF_A_CONNECTION = frozenset({"connection", "keep-alive", "transfer-encoding", "host", "content-length"})


class Gate(BaseHTTPRequestHandler):
    """Sends a request on and its answer back.

    Args:
        target: URL of the server behind.
        closed: whether nothing passes at the moment.
    """

    protocol_version = "HTTP/1.1"
    target = ""

    @staticmethod
    def closed() -> bool:
        return False

    def _pass(self) -> None:
        body = self._body()
        if self.closed():
            self.close_connection = True
            return
        try:
            with contextlib.closing(self._connection()) as connection:
                path = urlsplit(self.target).path.rstrip("/") + self.path
                connection.request(self.command, path, body, _own(self.headers))
                answer = connection.getresponse()
                data = answer.read()
        except (OSError, HTTPException):
            self.close_connection = True  # what is not there behind the gate is not there before it
            return
        self._answer(answer, data)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _pass

    def _connection(self) -> HTTPConnection:
        place = urlsplit(self.target)
        kind = HTTPSConnection if place.scheme == "https" else HTTPConnection
        return kind(place.netloc, timeout=PATIENCE_S)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def _answer(self, answer: HTTPResponse, data: bytes) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in _own(answer.headers).items():
            self.send_header(name, value)
        length = answer.headers["Content-Length"] if self.command == "HEAD" else len(data)
        if length is not None and answer.status not in (204, 304):
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody wants to read it."""


def _own(headers: Message) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _OF_A_CONNECTION}


@contextlib.contextmanager
def before(target: str, closed: Callable[[], bool]) -> Iterator[str]:
    """A URL of this machine that stands for `target` during the block, except while it is `closed`."""
    handler = type("GateBefore", (Gate,), {"target": target, "closed": staticmethod(closed)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="lehr-gate", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
