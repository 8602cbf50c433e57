"""The fault proxy against a small server: what every fault looks like to a client, and to the server."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from faults import Proxy, Request

BODY = bytes(range(256)) * 400


class Handler(BaseHTTPRequestHandler):
    """Keeps what is put, byte by byte; /chunked answers in chunks."""

    protocol_version = "HTTP/1.1"
    kept: dict[str, bytes]

    def do_PUT(self) -> None:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            length = int(self.headers["Content-Length"])
            data = self.rfile.read(length)
            if len(data) < length:
                return
        self.kept[self.path] = data
        self.answer(b"")

    def do_GET(self) -> None:
        if self.path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for start in range(0, len(BODY), 10_000):
                part = BODY[start : start + 10_000]
                self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
        elif self.path == "/host":
            self.answer(self.headers["Host"].encode())
        else:
            self.answer(self.kept.get(self.path, BODY))

    do_HEAD = do_GET

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Says nothing of clients that go away: that is what they are here for."""

    def handle_error(self, *_: object) -> None:
        pass


@pytest.fixture
def kept() -> dict[str, bytes]:
    return {}


@pytest.fixture
def proxy(kept: dict[str, bytes]) -> Iterator[Proxy]:
    handler = type("OneHandler", (Handler,), {"kept": kept})
    with Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        with Proxy(f"http://127.0.0.1:{server.server_port}") as proxy:
            yield proxy
        server.shutdown()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(urlsplit(proxy.url).netloc, timeout=10)
    yield connection
    connection.close()


def ask(client: http.client.HTTPConnection, method: str, path: str, **more: object) -> tuple[int, bytes]:
    client.request(method, path, **more)  # type: ignore[arg-type]
    answer = client.getresponse()
    return answer.status, answer.read()


def test_without_faults_everything_goes_through(proxy: Proxy, client: http.client.HTTPConnection) -> None:
    assert ask(client, "PUT", "/a", body=BODY) == (200, b"")
    connection = client.sock
    assert ask(client, "PUT", "/b", body=iter([b"one", b"two"]), encode_chunked=True) == (200, b"")
    assert ask(client, "GET", "/a") == (200, BODY)
    assert ask(client, "GET", "/b") == (200, b"onetwo")
    assert ask(client, "HEAD", "/a") == (200, b"")
    assert ask(client, "GET", "/chunked") == (200, BODY)
    assert ask(client, "GET", "/host") == (200, urlsplit(proxy.url).netloc.encode())
    assert client.sock is connection  # kept alive
    assert proxy.requests[0] == Request("PUT", "/a", 200, None)
    assert len(proxy.requests) == 7


def test_a_client_that_asks_before_it_sends(proxy: Proxy, client: http.client.HTTPConnection) -> None:
    client.putrequest("PUT", "/a")
    client.putheader("Content-Length", "3")
    client.putheader("Expect", "100-continue")
    client.endheaders()
    assert client.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"abc")
    assert client.getresponse().read() == b""
    assert ask(client, "GET", "/a") == (200, b"abc")


@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_status(
    proxy: Proxy, client: http.client.HTTPConnection, kept: dict[str, bytes], status: int
) -> None:
    with proxy.fault("status", status=status):
        given, body = ask(client, "PUT", "/a", body=BODY)
        assert given == status
        assert b"<Error><Code>" in body
        assert ask(client, "HEAD", "/a") == (status, b"")
    assert kept == {}
    assert ask(client, "GET", "/a") == (200, BODY)
    assert proxy.requests[0] == Request("PUT", "/a", status, "status")


def test_refuse_until_lifted(proxy: Proxy, client: http.client.HTTPConnection) -> None:
    ask(client, "GET", "/a")
    with proxy.fault("refuse"):
        with pytest.raises(ConnectionError):
            ask(client, "GET", "/a")
        client.close()
        with pytest.raises(ConnectionRefusedError):
            ask(client, "GET", "/a")
        assert len(proxy.requests) == 1
    until = time.monotonic() + 90
    while True:
        client.close()
        try:
            assert ask(client, "GET", "/a") == (200, BODY)
            return
        except ConnectionRefusedError:
            assert time.monotonic() < until


def test_refuse_of_some_is_a_reset(proxy: Proxy, client: http.client.HTTPConnection) -> None:
    proxy.fault("refuse", match="GET /a")
    assert ask(client, "GET", "/b") == (200, BODY)
    with pytest.raises(ConnectionError):
        ask(client, "GET", "/a")


def test_hang(proxy: Proxy, client: http.client.HTTPConnection, kept: dict[str, bytes]) -> None:
    fault = proxy.fault("hang")
    client.timeout = 0.3
    with pytest.raises(TimeoutError):
        ask(client, "PUT", "/a", body=BODY)
    client.close()
    fault.lift()
    client.timeout = 10
    assert ask(client, "GET", "/b") == (200, BODY)
    assert kept == {}


def test_who_hangs_when_it_is_lifted_gets_no_answer(proxy: Proxy, client: http.client.HTTPConnection) -> None:
    proxy.fault("hang", seconds=0.2)
    with pytest.raises(ConnectionError):
        ask(client, "GET", "/a")


def test_slow(proxy: Proxy, client: http.client.HTTPConnection) -> None:
    for settings in ({"delay_s": 0.3}, {"bytes_s": len(BODY) / 0.3}):
        with proxy.fault("slow", **settings):
            began = time.monotonic()
            assert ask(client, "GET", "/a") == (200, BODY)
            assert time.monotonic() - began >= 0.29
    with proxy.fault("slow", bytes_s=len(BODY) / 0.3):
        began = time.monotonic()
        ask(client, "PUT", "/a", body=BODY)
        assert time.monotonic() - began >= 0.29


@pytest.mark.parametrize("after", [None, 0, 1000])
@pytest.mark.parametrize("path", ["/a", "/chunked"])
def test_cut(proxy: Proxy, client: http.client.HTTPConnection, path: str, after: int | None) -> None:
    proxy.fault("cut", after=after, nth=1)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        ask(client, "GET", path)
    client.close()
    assert ask(client, "GET", path) == (200, BODY)
    assert proxy.requests[0] == Request("GET", path, None, "cut")


def test_what_is_cut_has_begun(proxy: Proxy, client: http.client.HTTPConnection) -> None:
    with proxy.fault("cut", after=1000):
        with pytest.raises(http.client.IncompleteRead) as raised:
            ask(client, "GET", "/a")
        assert raised.value.partial == BODY[:1000]


def test_cut_request(proxy: Proxy, client: http.client.HTTPConnection, kept: dict[str, bytes]) -> None:
    with proxy.fault("cut_request"), pytest.raises(ConnectionError):
        ask(client, "PUT", "/a", body=BODY)
    client.close()
    assert kept == {}
    assert ask(client, "PUT", "/a", body=BODY) == (200, b"")


def test_lost_answer(proxy: Proxy, client: http.client.HTTPConnection, kept: dict[str, bytes]) -> None:
    with proxy.fault("lost_answer") as fault, pytest.raises(ConnectionError):
        ask(client, "PUT", "/a", body=BODY)
    assert kept == {"/a": BODY}
    assert fault.hits == 1


def test_only_the_nth_that_matches(proxy: Proxy, client: http.client.HTTPConnection) -> None:
    fault = proxy.fault("status", match=r"PUT .*weights", nth=2)
    given = [
        ask(client, method, path, body=b"x")[0]
        for method, path in (("PUT", "/weights"), ("GET", "/weights"), ("PUT", "/b"), ("PUT", "/weights"),
                             ("PUT", "/weights"))
    ]  # fmt: skip
    assert given == [200, 200, 200, 503, 200]
    assert (fault.seen, fault.hits) == (3, 1)


def test_for_a_time(proxy: Proxy, client: http.client.HTTPConnection) -> None:
    proxy.fault("status", seconds=0.2)
    assert ask(client, "GET", "/a")[0] == 503
    time.sleep(0.25)
    assert ask(client, "GET", "/a")[0] == 200


def test_an_unknown_fault_is_told(proxy: Proxy) -> None:
    with pytest.raises(ValueError, match="accepted are refuse"):
        proxy.fault("explode")


def test_the_end_of_the_proxy_ends_what_hangs(kept: dict[str, bytes]) -> None:
    with Server(("127.0.0.1", 0), type("H", (Handler,), {"kept": kept})) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        proxy = Proxy(f"http://127.0.0.1:{server.server_port}")
        with proxy:
            proxy.fault("hang")
            client = http.client.HTTPConnection(urlsplit(proxy.url).netloc, timeout=10)
            client.request("GET", "/a")
        with pytest.raises(ConnectionError):
            client.getresponse()
        server.shutdown()
