"""The first thing that a worker does: it sees the folder of its run, or says at once why not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fakes import MemoryStore
from lehr.errors import StorageDenied, UserError
from lehr.launch import entry


class Refusing(MemoryStore):
    """A store that does not take these credentials."""

    def size(self, key: str) -> int | None:
        raise StorageDenied(f"{self.url}/{key}: could not look at it: 403: Forbidden")


def test_a_host_without_the_folder_is_named() -> None:
    with pytest.raises(UserError, match=r"does not see fake://store/plan\.json, written at the start"):
        entry._see(MemoryStore())


def test_a_host_without_credentials_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(entry.ATTEMPT, "1")
    with pytest.raises(UserError, match=r"fake://store, on .*: cannot be used: (.|\n)*403(.|\n)*do: "):
        entry._see(Refusing())


def test_what_worked_before_may_work_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(entry.ATTEMPT, "2")
    with pytest.raises(StorageDenied):
        entry._see(Refusing())


def test_an_outage_at_the_start_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry._say("storage fails")
    assert capsys.readouterr().err == "lehr: storage fails\n"


def test_a_thread_that_hangs_does_not_keep_a_worker_from_leaving() -> None:
    program = (
        "import threading, time\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from lehr.launch import process\n"
        "process.LEAVE_S = 0.2\n"
        "ThreadPoolExecutor(1).submit(time.sleep, 120)\n"
        "process.leave(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 7
