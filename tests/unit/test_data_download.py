"""Downloads, against an HTTP server of the test's own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lehr.data import download
from lehr.data.published import Published
from lehr.errors import UserError

CONTENT = b"thirty images of clothing" * 4000
FILE = Published("train-images-idx3-ubyte.gz", hashlib.md5(CONTENT).hexdigest())


@dataclass
class Home:
    """A server: what it answers, in turn (the last again and again), and what it was asked."""

    url: str = ""
    answers: list[tuple[int, bytes]] = field(default_factory=lambda: [(200, CONTENT)])
    asked: list[str] = field(default_factory=list)
    cut: bool = False  # announce more than is sent
    open: threading.Event = field(default_factory=threading.Event)  # until then every answer waits

    def answer(self) -> tuple[int, bytes]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def home() -> Iterator[Home]:
    state = Home()
    state.open.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            state.open.wait(30)
            status, body = state.answer()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) + (100 if state.cut else 0)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/data/"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def fetch(folder: Path, *homes: str) -> Path:
    return download.fetch(FILE, homes, folder=folder, pause_s=0.01)


def left(folder: Path) -> list[str]:
    """Files in the cache, locks aside."""
    return sorted(p.name for p in folder.iterdir() if p.suffix != ".lock")


def test_it_comes_once_and_is_kept(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "mnist"
    assert fetch(folder, home.url).read_bytes() == CONTENT
    assert fetch(folder, home.url).read_bytes() == CONTENT
    assert home.asked == [f"/data/{FILE.name}"]
    assert left(folder) == [FILE.name]


def test_a_file_put_in_the_cache_needs_no_network(tmp_path: Path) -> None:
    (tmp_path / FILE.name).write_bytes(b"mine")
    assert fetch(tmp_path).read_bytes() == b"mine"


def test_another_content_is_thrown_away_and_said(home: Home, tmp_path: Path) -> None:
    home.answers = [(200, b"<html>please log in</html>")]
    with pytest.raises(UserError) as caught:
        fetch(tmp_path, home.url)
    came = hashlib.md5(home.answers[0][1]).hexdigest()
    assert str(caught.value).splitlines() == [
        f"data, {FILE.name}: is not in the cache and could not be downloaded:",
        f"    {home.url}{FILE.name}: 26 bytes came, with MD5 {came} "
        "and look like a web page (a proxy's, or a login?); they were thrown away",
        f"  accepted: the file with MD5 {FILE.md5}",
        f"  do: connect this host (HTTPS_PROXY is honoured), or put the file in {tmp_path}, or set data.root "
        "or LEHR_DATA to a folder that has it",
    ]
    assert left(tmp_path) == []


@pytest.mark.parametrize("status", [404, 403])
def test_the_next_home_is_asked_at_once(status: int, home: Home, tmp_path: Path) -> None:
    home.answers = [(status, b"no"), (200, CONTENT)]
    other = home.url.replace("/data/", "/mirror/")
    assert fetch(tmp_path, home.url, other).read_bytes() == CONTENT
    assert home.asked == [f"/data/{FILE.name}", f"/mirror/{FILE.name}"]


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_hiccup_is_tried_again(status: int, home: Home, tmp_path: Path) -> None:
    home.answers = [(status, b"later"), (200, CONTENT)]
    assert fetch(tmp_path, home.url).read_bytes() == CONTENT
    assert len(home.asked) == 2


def test_a_connection_that_ends_early(home: Home, tmp_path: Path) -> None:
    home.cut = True
    with pytest.raises(UserError, match=r"IncompleteRead"):
        fetch(tmp_path, home.url)
    assert len(home.asked) == download.TRIES
    assert left(tmp_path) == []


def test_no_network(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"127\.0\.0\.1:1/[\s\S]*Connection refused[\s\S]*set data\.root"):
        fetch(tmp_path, "http://127.0.0.1:1/")


def test_every_home_that_failed_is_named(home: Home, tmp_path: Path) -> None:
    home.answers = [(404, b"no")]
    with pytest.raises(UserError, match=r"/data/.*HTTP 404[\s\S]*127\.0\.0\.1:1/"):
        fetch(tmp_path, home.url, "http://127.0.0.1:1/")


def test_a_cache_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot be written[\s\S]*LEHR_CACHE"):
        fetch(tmp_path / "file" / "mnist", "http://127.0.0.1:1/")


def test_a_crash_leaves_no_half_file(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        fetch(tmp_path, home.url)
    assert left(tmp_path) == []


WORKER = """
import sys
from pathlib import Path
from lehr.data import download
from lehr.data.published import Published
file = Published(sys.argv[2], sys.argv[3])
print("asking", flush=True)
print(len(download.fetch(file, [sys.argv[1]], folder=Path(sys.argv[4])).read_bytes()))
"""


def test_several_processes_download_once(home: Home, tmp_path: Path) -> None:
    home.open.clear()
    command = [sys.executable, "-c", WORKER, home.url, FILE.name, FILE.md5, str(tmp_path)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [w.stdout and w.stdout.readline() for w in workers] == ["asking\n"] * 4
    time.sleep(0.2)  # all but one stand at the lock
    home.open.set()
    said = [w.communicate(timeout=240)[0].strip() for w in workers]
    assert said == [str(len(CONTENT))] * 4
    assert len(home.asked) == 1


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LEHR_CACHE", str(tmp_path))
    assert download.cache_folder() == tmp_path / "data"
    monkeypatch.delenv("LEHR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert download.cache_folder().is_relative_to(tmp_path / "user")
