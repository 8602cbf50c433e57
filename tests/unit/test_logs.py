"""A worker's output ends up in its run, from Python and from below, also when the worker is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest

from fakes import MemoryStore
from lehr import logs
from lehr import store as stores
from lehr.errors import StorageError
from lehr.store import Store, growing


@pytest.fixture(params=["folder", "memory"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store whose keys are files, and one whose keys are not."""
    urls = {"folder": str(tmp_path / "runs" / "ebm"), "memory": f"memory://{uuid.uuid4().hex}/ebm"}
    return stores.connect(urls[request.param])


def text(store: Store, rank: int = 0, attempt: int = 1) -> str:
    return store.read(logs.key(rank, attempt)).decode()


def test_what_is_printed_below_python_is_captured(run: Store, capfd: pytest.CaptureFixture[str]) -> None:
    os.write(1, b"before\n")
    with logs.capture(run, rank=0, attempt=1):
        os.write(2, b"from below\n")
        subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
    os.write(1, b"after\n")
    assert text(run) == "from below\nfrom a child\n"
    assert capfd.readouterr().out == "before\nafter\n"


def test_what_python_holds_back_goes_where_it_was_printed(tmp_path: Path) -> None:
    program = (
        "import sys; from lehr import logs, store; run = store.connect(sys.argv[1]); print('before')\n"
        "with logs.capture(run, rank=0, attempt=1): print('within')\n"
        "print('after')"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert said.stdout == "before\nafter\n"
    assert text(stores.connect(str(tmp_path))) == "within\n"


def test_capture_inside_a_capture_of_the_same_log_changes_nothing(run: Store) -> None:
    with logs.capture(run, rank=0, attempt=1):
        os.write(1, b"1")
        with logs.capture(run, rank=0, attempt=1):
            os.write(1, b"2")
        os.write(1, b"3")
    assert text(run) == "123"


def test_capture_into_another_attempt_has_precedence(run: Store) -> None:
    with logs.capture(run, rank=0, attempt=1):
        os.write(1, b"early")
        with logs.capture(run, rank=0, attempt=2):
            os.write(1, b"claimed")
        os.write(1, b", late")
    assert (text(run), text(run, attempt=2)) == ("early, late", "claimed")
    assert (logs.newest(run, 0), logs.newest(run, 1)) == (2, 0)


def test_error_inside_leaves_the_descriptors_as_they_were(
    run: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="x"), logs.capture(run, rank=0, attempt=1):
        raise ValueError("x")
    os.write(1, b"back")
    assert capfd.readouterr().out == "back"


def test_what_a_killed_worker_said_is_there(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from lehr import logs, store;"
        "run = store.connect(sys.argv[1]);\n"
        "with logs.capture(run, rank=3, attempt=1):\n"
        "    os.write(2, b'last words'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert text(stores.connect(str(tmp_path)), rank=3) == "last words"


class Flaky(MemoryStore):
    """A store without files that refuses the first writes."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__()
        self.failures, self.writes = failures, 0

    def write(self, key: str, data: bytes) -> None:
        if self.failures:
            self.failures -= 1
            raise StorageError("the network is gone")
        self.writes += 1
        super().write(key, data)

    @property
    def data(self) -> bytes:
        return growing.read(self, logs.key(0, 1))


def test_log_goes_out_while_the_worker_runs_and_again_after_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(logs, "PERIOD_S", 0.02)
    store = Flaky(failures=2)
    with logs.capture(store, rank=0, attempt=1):
        os.write(1, b"first\n")
        deadline = time.monotonic() + 90
        while store.data != b"first\n":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.write(1, b"second\n")
    assert store.data == b"first\nsecond\n"


def test_store_that_never_takes_it_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "CLOSE_S", 0.2)
    store = Flaky(failures=10**9)
    with logs.capture(store, rank=0, attempt=1):
        os.write(1, b"into the void\n")
    assert store.data == b""


def test_store_that_hangs_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "CLOSE_S", 0.2)
    answer = threading.Event()

    class Hanging(MemoryStore):
        def write(self, key: str, data: bytes) -> None:
            answer.wait(60)

    began = time.monotonic()
    with logs.capture(Hanging(), rank=0, attempt=1):
        os.write(1, b"into the void\n")
    assert time.monotonic() - began < 30
    answer.set()


def test_the_end_outlasts_a_moment_of_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "RETRY_S", 0.01)
    store = Flaky(failures=3)
    with logs.capture(store, rank=0, attempt=1):
        os.write(1, b"last words\n")
    assert store.data == b"last words\n"


def test_a_flood_is_sent_a_chunk_at_a_time_and_whole_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "CHUNK_BYTES", 1000)
    store, said = Flaky(), b"".join(b"line %06d\n" % i for i in range(10_000))
    with logs.capture(store, rank=0, attempt=1):
        os.write(1, said)
        assert store.writes == 0, "nothing goes out before its time"
    assert store.data == said


def test_a_log_is_sent_at_a_bounded_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "CHUNK_BYTES", 100)
    spool = tmp_path / "spool"
    spool.write_bytes(b"x" * 1000)
    store, waits = Flaky(failures=5), []

    class End:
        def wait(self, pause_s: float) -> bool:
            waits.append(pause_s)
            return len(waits) > 10

        def set(self) -> None: ...

    monkeypatch.setattr(logs, "threading", SimpleNamespace(Event=End, Thread=threading.Thread))
    sender = logs._Sender(store, logs.key(0, 1), spool)
    sender._thread.join(30)
    assert waits == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0, *[5.0] * 5]
    assert len(store.data) == 500, "a chunk a period"


def test_long_logs_are_segments_that_read_as_one() -> None:
    store, said = Flaky(), b"".join(b"line %06d\n" % i for i in range(200_000))
    with logs.capture(store, rank=0, attempt=1):
        os.write(1, said)
    assert len(store.list("logs")) == 3
    assert store.data == said
    assert logs.kept(store) == {1: [0]}
    assert logs.tail(store, 0, 1, lines=2) == ["line 199998", "line 199999"]
    assert logs.last(store, logs.key(0, 1), 3) == (said[-36:], len(said))
    assert logs.last(store, logs.key(0, 1), 100_000) == (said[-1_200_000:], len(said))
    assert logs.last(store, logs.key(0, 1), 0) == (b"", len(said))
    assert logs.last(store, logs.key(5, 1), 3) == (b"", 0)


def test_tail_leaves_out_what_libraries_say_at_their_start(run: Store) -> None:
    chatter = [
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
        "I0000 00:00:1795208568.970535   23453 port.cc:153] oneDNN custom operations are on. You may see",
        "I0000 00:00:1795208568.975760   23453 cudart_stub.cc:31] Could not find cuda drivers",
        "E0000 00:00:1795208576.412112   23453 cuda_platform.cc:52] failed call to cuInit: INTERNAL",
        "",
    ]
    run.append(logs.key(0, 1), "\n".join([*chatter, "Traceback", "ValueError: x", *chatter]).encode())
    assert logs.tail(run, 0, 1) == ["Traceback", "ValueError: x"]
    assert logs.tail(run, 0, 1, lines=1) == ["ValueError: x"]
    assert logs.tail(run, 7, 1) == []


def test_tail_of_a_long_log_reads_its_end(run: Store) -> None:
    run.append(logs.key(0, 1), b"".join(b"line %06d\n" % i for i in range(20_000)))
    assert logs.tail(run, 0, 1, lines=2) == ["line 019998", "line 019999"]
