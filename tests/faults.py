"""A proxy between any HTTP/1.1 client and one server that fails on demand, in every way that servers do.

    with Proxy(server.endpoint) as proxy:           proxy.url is what the client is given
        with proxy.fault("status", status=503):     every request, until the block ends
            ...
        proxy.fault("cut", nth=3, match=r"PUT .*weights")       one request: the third that matches
        proxy.fault("hang", seconds=5)                          every request for five seconds

Kinds: `refuse` connections; `hang`: read and never answer; `slow`: `delay_s` before the answer, `bytes_s` in
either direction; `status`: an answer of the proxy's own; `cut` the answer after `after` bytes of its body;
`cut_request`: stop listening in the middle of an upload; `lost_answer`: the request has its effect, and
nobody hears of it. Every connection has a thread. The Host header goes through unchanged: S3's signatures
cover it.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO
from urllib.parse import urlsplit

KINDS = ("refuse", "hang", "slow", "status", "cut", "cut_request", "lost_answer")
CODES = {403: "AccessDenied", 429: "TooManyRequests", 500: "InternalError", 503: "SlowDown"}
REASONS = {403: "Forbidden", 429: "Too Many Requests", 500: "Internal Server Error", 503: "Slow Down"}
BLOCK = 1 << 16
SLICE_S = 0.02  # of waiting, between looks at whether to go on


@dataclass
class Request:
    """What came by. `status` is set right before the answer goes to the client, if a whole one does."""

    method: str
    path: str
    status: int | None
    fault: str | None


@dataclass(eq=False)
class Fault:
    """One fault; a context manager that lifts it.

    Attributes:
        kind: one of KINDS.
        match: found in "METHOD /path?query" of the requests that it concerns.
        nth: only this one of them, counted from 1 and from the fault's beginning; None: all.
        seconds: after which it is lifted; None: never by itself.
        status: of `status`.
        after: bytes of a body that are passed on before it is cut; None: half of it.
        delay_s: of `slow`, before the answer.
        bytes_s: of `slow`, bytes per second of bodies.
        hits: how many requests it has struck.
    """

    kind: str
    match: str = ""
    nth: int | None = None
    seconds: float | None = None
    status: int = 503
    after: int | None = None
    delay_s: float = 0.0
    bytes_s: float | None = None
    hits: int = 0
    seen: int = 0
    lifted: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} is no fault: accepted are {', '.join(KINDS)}")
        self.until = None if self.seconds is None else time.monotonic() + self.seconds

    def __enter__(self) -> Fault:
        return self

    def __exit__(self, *_: object) -> None:
        self.lift()

    def lift(self) -> None:
        self.lifted.set()

    @property
    def active(self) -> bool:
        return not self.lifted.is_set() and (self.until is None or time.monotonic() < self.until)

    @property
    def is_total(self) -> bool:
        """Whether the server is away altogether."""
        return self.kind == "refuse" and self.nth is None and not self.match

    def strikes(self, request: str) -> bool:
        if not self.active or self.is_total or re.search(self.match, request) is None:
            return False
        self.seen += 1
        struck = self.nth is None or self.seen == self.nth
        self.hits += struck
        return struck


class Proxy:
    """The proxy; a context manager.

    Attributes:
        requests: all that have come by, in the order of their beginnings.
    """

    def __init__(self, upstream: str) -> None:
        address = urlsplit(upstream)
        self._upstream = (address.hostname or "127.0.0.1", address.port or 80)
        self.requests: list[Request] = []
        self._faults: list[Fault] = []
        self._clients: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._listener: socket.socket | None = _listen(0)
        self._port = int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Proxy:
        self._thread = threading.Thread(target=self._serve, name="proxy", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()
        self._reset_all()

    def fault(self, kind: str, **settings: object) -> Fault:
        """Begin a fault; see `Fault` for its settings. It lasts until lifted, or as long as they say."""
        fault = Fault(kind, **settings)  # type: ignore[arg-type]
        with self._lock:
            self._faults = [old for old in self._faults if old.active] + [fault]
        if fault.is_total:
            while self._listener is not None and fault.active and not self._closed.is_set():
                time.sleep(SLICE_S / 4)  # the fault has begun when this returns
        return fault

    def lift(self) -> None:
        """End every fault."""
        for fault in self._faults:
            fault.lift()

    def _is_away(self) -> bool:
        return any(fault.is_total and fault.active for fault in list(self._faults))

    def _serve(self) -> None:
        while not self._closed.is_set():
            if self._is_away():
                self._go_away()
                time.sleep(SLICE_S)
                continue
            if self._listener is None:
                self._listener = _listen(self._port)
            self._accept(self._listener)
        self._go_away()

    def _go_away(self) -> None:
        if self._listener is not None:
            self._reset_all()
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        listener.settimeout(SLICE_S)
        try:
            client, _ = listener.accept()
        except TimeoutError:
            return
        client.settimeout(None)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._clients.add(client)
        threading.Thread(target=self._converse, args=(client,), daemon=True).start()

    def _reset_all(self) -> None:
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            _reset(client)

    def _converse(self, client: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError, ValueError), client.makefile("rb") as reader:
                while self._exchange(client, reader):
                    pass
        finally:
            with self._lock:
                self._clients.discard(client)
            client.close()  # a reset, where `_reset` asked for one

    def _exchange(self, client: socket.socket, reader: BinaryIO) -> bool:
        """One request and its answer; whether the connection goes on."""
        head = _Head.read(reader)
        if head is None:
            return False
        method, path, *_ = head.first.split(" ")
        with self._lock:
            faults = list(self._faults)
            fault = next((fault for fault in faults if fault.strikes(f"{method} {path}")), None)
            request = Request(method, path, None, fault.kind if fault else None)
            self.requests.append(request)
        exchange = _Exchange(self, client, reader, head, fault, request)
        return exchange.run(self._upstream) and not exchange.ends

    def waits(self, fault: Fault, seconds: float | None, client: socket.socket | None = None) -> None:
        """Wait for a fault's end, or its delay's, or the client's, or ours."""
        until = None if seconds is None else time.monotonic() + seconds
        while fault.active and not self._closed.is_set() and not (client and _is_gone(client)):
            if until is not None and time.monotonic() >= until:
                return
            time.sleep(SLICE_S)


@dataclass
class _Head:
    """First line and headers of a request or an answer."""

    first: str
    lines: list[bytes]
    headers: dict[str, str]

    @classmethod
    def read(cls, reader: BinaryIO) -> _Head | None:
        first = reader.readline()
        if not first.endswith(b"\n"):
            return None
        lines, headers = [first], {}
        while (line := reader.readline()) not in (b"\r\n", b"\n"):
            if not line:
                return None
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
            lines.append(line)
        return cls(first.decode("latin-1").strip(), lines, headers)

    def without(self, name: str) -> bytes:
        kept = [line for line in self.lines if not line.lower().startswith(f"{name}:".encode())]
        return b"".join(kept) + b"\r\n"

    @property
    def length(self) -> int | None:
        """Bytes of the body, if they are told."""
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            return None
        return int(self.headers["content-length"]) if "content-length" in self.headers else None

    def body(self, reader: BinaryIO, otherwise: int | None) -> Iterator[bytes]:
        """The body's bytes as they are on the wire; `otherwise`: its length when none is told, None: all."""
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            yield from _chunks(reader)
            return
        rest = otherwise if self.length is None else self.length
        while rest is None or rest > 0:
            data = reader.read1(BLOCK if rest is None else min(rest, BLOCK))  # type: ignore[attr-defined]
            if not data:
                if rest is None:
                    return
                raise ConnectionError("ended in the middle of a body")
            rest = rest if rest is None else rest - len(data)
            yield data


def _chunks(reader: BinaryIO) -> Iterator[bytes]:
    while True:
        line = reader.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("ended in the middle of a body")
        size = int(line.split(b";")[0], 16)
        yield line
        if size == 0:
            break
        rest = size + 2
        while rest:
            data = reader.read(min(rest, BLOCK))
            if not data:
                raise ConnectionError("ended in the middle of a body")
            rest -= len(data)
            yield data
    while (line := reader.readline()) not in (b"\r\n", b"\n", b""):
        yield line
    yield b"\r\n"


class _Exchange:
    """One request on its way, and its answer on the way back."""

    def __init__(
        self, proxy: Proxy, client: socket.socket, reader: BinaryIO, head: _Head,
        fault: Fault | None, request: Request,
    ) -> None:  # fmt: skip
        self._proxy, self._client, self._reader, self._head = proxy, client, reader, head
        self._fault, self._request = fault, request
        self._kind = fault.kind if fault else ""
        self.ends = "close" in head.headers.get("connection", "").lower()

    def run(self, upstream: tuple[str, int]) -> bool:
        """Whether the client got a whole answer."""
        if self._kind == "refuse":
            return self._break()
        if "100-continue" in self._head.headers.get("expect", "").lower():
            self._client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._kind in ("hang", "status"):
            for _ in self._head.body(self._reader, 0):
                pass
            return self._own_answer()
        with socket.create_connection(upstream) as server:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not self._pass_request(server):
                return self._break()
            with server.makefile("rb") as answers:
                return self._pass_answer(answers)

    def _own_answer(self) -> bool:
        fault = self._fault
        assert fault is not None
        if self._kind == "hang":
            self._proxy.waits(fault, None, self._client)
            return self._break()
        code = CODES.get(fault.status, "InternalError")
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code>'
            f"<Message>a fault on purpose</Message><RequestId>fault</RequestId></Error>"
        ).encode()
        reason = REASONS.get(fault.status, "Fault")
        self._request.status = fault.status
        head = f"HTTP/1.1 {fault.status} {reason}\r\nContent-Type: application/xml\r\n"
        self._client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode())
        if not self._head.first.startswith("HEAD "):
            self._client.sendall(body)
        return True

    def _pass_request(self, server: socket.socket) -> bool:
        """Send it on; False when it was cut."""
        limit = self._limit(self._head, "cut_request")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may answer before the end
            server.sendall(self._head.without("expect"))
        sent, listens = 0, True
        for data in self._head.body(self._reader, 0):
            self._pace(len(data))
            part = data if limit is None else data[: limit - sent]
            if listens:
                try:
                    server.sendall(part)
                except OSError:
                    listens = False
            sent += len(part)
            if limit is not None and sent >= limit:
                return False
        return self._kind != "cut_request"

    def _pass_answer(self, answers: BinaryIO) -> bool:
        head = _Head.read(answers)
        while head is not None and head.first.split(" ")[1].startswith("1"):
            head = _Head.read(answers)
        if head is None:
            return self._break()
        status = int(head.first.split(" ")[1])
        bare = self._head.first.startswith("HEAD ") or status in (204, 304)
        body: Iterator[bytes] = iter(()) if bare else head.body(answers, None)
        if self._kind == "lost_answer":
            for _ in body:
                pass
            return self._break()
        if self._fault and self._kind == "slow":
            self._proxy.waits(self._fault, self._fault.delay_s)
        self._request.status = None if self._kind == "cut" else status
        self._client.sendall(b"".join(head.lines) + b"\r\n")
        limit = self._limit(head, "cut")
        if not self._pass_body(body, limit):
            return self._break()
        framed = bare or head.length is not None or "transfer-encoding" in head.headers
        self.ends = self.ends or not framed or "close" in head.headers.get("connection", "").lower()
        return True

    def _pass_body(self, body: Iterator[bytes], limit: int | None) -> bool:
        """Pass an answer's body on; False when it was cut."""
        sent = 0
        for data in body:
            self._pace(len(data))
            part = data if limit is None else data[: limit - sent]
            self._client.sendall(part)
            sent += len(part)
            if limit is not None and sent >= limit:
                break
        return limit is None

    def _limit(self, head: _Head, kind: str) -> int | None:
        if self._fault is None or self._kind != kind:
            return None
        return (head.length or 0) // 2 if self._fault.after is None else self._fault.after

    def _pace(self, size: int) -> None:
        if self._fault and self._kind == "slow" and self._fault.bytes_s:
            self._proxy.waits(self._fault, size / self._fault.bytes_s)

    def _break(self) -> bool:
        """End the connection without a word, so that nothing passes for the end of a body."""
        _reset(self._client, hard=self._kind != "cut")
        return False


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    return listener


def _reset(connection: socket.socket, *, hard: bool = True) -> None:
    """End it at once; hard: the other side gets a reset, and what it has not read yet is lost."""
    with contextlib.suppress(OSError):
        if hard:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.shutdown(socket.SHUT_RD if hard else socket.SHUT_RDWR)


def _is_gone(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
