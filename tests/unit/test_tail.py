"""Following a driver's output over connections that break."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from aiohttp import web

from lehr.errors import LaunchError
from lehr.launch import tail
from lehr.launch.addresses import Address
from lehr.launch.jobs import Jobs

TEXT = "".join(f"line {number}\n" for number in range(20))
ID = "ebm.1"


class Server:
    """Tells TEXT in pieces; the first connections break after one piece more than the one before."""

    def __init__(self) -> None:
        self.connections, self.breaks, self.forgotten = 0, 3, False
        self.token: str | None = None
        self._up = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._up.wait(30)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.run_forever()

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_get(f"/api/jobs/{ID}/logs/tail", self._tail)
        app.router.add_get(f"/api/jobs/{ID}/logs", self._log)
        app.router.add_get(f"/api/jobs/{ID}", self._info)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        self._up.set()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _tail(self, request: web.Request) -> web.WebSocketResponse:
        self.connections += 1
        self.token = request.headers.get("Authorization")
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        pieces = [TEXT[start : start + 33] for start in range(0, len(TEXT), 33)]
        for count, piece in enumerate(pieces):
            if self.connections <= self.breaks and count == self.connections:
                assert request.transport is not None
                request.transport.abort()
                break
            await socket.send_str(piece)
        return socket

    async def _log(self, _: web.Request) -> web.Response:
        return web.json_response({"logs": f"{TEXT}the end\n"})

    async def _info(self, _: web.Request) -> web.Response:
        if self.forgotten:
            return web.Response(status=404)
        word = "RUNNING" if self.connections <= self.breaks else "SUCCEEDED"
        given = {"lehr_run": "ebm"}
        return web.json_response(
            {
                "type": "SUBMISSION",
                "submission_id": ID,
                "status": word,
                "metadata": given,
                "driver_exit_code": 0,
            }
        )


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(tail, "PAUSE_S", 0.01)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a-token")
    up = Server()
    yield up
    up.close()


def follow(server: Server, *, skip: int = 0) -> tuple[str, list[str]]:
    shown: list[str] = []
    said: list[str] = []
    jobs = Jobs(Address(f"http://127.0.0.1:{server.port}"))
    ended = tail.Tail(jobs, ID, show=shown.append, say=said.append).follow(skip=skip)
    assert (ended.status, ended.exit_code) == ("SUCCEEDED", 0)
    return "".join(shown), said


def test_every_letter_is_shown_once_however_often_the_connection_breaks(server: Server) -> None:
    assert follow(server)[0] == f"{TEXT}the end\n"
    assert server.connections == 4
    assert server.token == "Bearer a-token"


def test_what_was_shown_before_is_left_out(server: Server) -> None:
    assert follow(server, skip=50)[0] == f"{TEXT}the end\n"[50:]


def test_job_that_the_cluster_forgot_ends_the_following(server: Server) -> None:
    server.forgotten = True
    with pytest.raises(LaunchError, match="the cluster does not know it any more"):
        follow(server)


def test_cluster_that_is_silent_is_asked_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "PAUSE_S", 0.01)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a-token")
    monkeypatch.setattr(tail, "PATIENCE_S", 0.3)
    said: list[str] = []
    jobs = Jobs(Address("http://127.0.0.1:9"))
    with pytest.raises(LaunchError, match="nobody answers"):
        tail.Tail(jobs, ID, show=print, say=said.append).follow()
    assert len(said) == 1
    assert said[0].startswith("the cluster does not answer, and is asked again:")
