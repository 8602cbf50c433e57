"""What is decided about a Ray cluster before anything is started on it."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from pathlib import Path

import pytest

import jobs
from lehr.errors import LaunchError, UserError
from lehr.launch import census, embedded, room
from lehr.launch.room import Growth, Room, Space
from lehr.plan import Plan


def plan() -> Plan:
    return jobs.plan(jobs.LENET, "strategy={kind: horovod, workers: 4}")


def test_nobody_at_the_address_is_told_soon() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, and not listening
        address = f"127.0.0.1:{held.getsockname()[1]}"
        began = time.monotonic()
        with (
            pytest.raises(LaunchError, match=f"--address {address}: no Ray cluster answers there"),
            embedded.cluster(plan(), address),
        ):
            pass
        assert time.monotonic() - began < embedded.KNOCK_S


def test_client_address_is_refused() -> None:
    with (
        pytest.raises(UserError, match="this is a Ray Client address"),
        embedded.cluster(plan(), "ray://127.0.0.1:10001"),
    ):
        pass


@pytest.mark.parametrize(("address", "grows"), [(None, False), ("h1:6379", True)])
def test_a_cluster_of_its_own_does_not_grow(
    monkeypatch: pytest.MonkeyPatch, address: str | None, grows: bool
) -> None:
    gpus = Growth("gpu-worker", {"CPU": 8.0, "GPU": 8.0}, 4)  # of the cluster whose head this machine is
    monkeypatch.setattr(embedded, "_own", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(embedded, "_joined", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(census, "take", lambda: Room((Space("h1", total={"CPU": 5.0}),)))
    monkeypatch.setattr(census, "grown", lambda: Room((), (gpus,)))
    with embedded.cluster(plan(), address) as there:
        assert there.grows == grows
        assert bool(room.graphics(plan(), there, least=4)) == grows


def test_folders_of_killed_drivers_are_removed(tmp_path: Path) -> None:
    dead, own, other = (
        tmp_path / f"{embedded.PREFIX}{name}" for name in (f"{2**22 + 1}-x", f"{os.getpid()}-x", "y")
    )
    for folder in (dead, own, other):
        (folder / "session").mkdir(parents=True)
    made = embedded.folder(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([own, other, made])


def test_sockets_fit_into_the_folders_name(monkeypatch: pytest.MonkeyPatch) -> None:
    long = "/var/folders/aa/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb/T"
    monkeypatch.setattr("tempfile.gettempdir", lambda: long)
    assert embedded._short_folder() == "/tmp"
    name = f"/tmp/{embedded.PREFIX}4194304-12345678"
    socket_name = "/session_2026-11-20_20-46-16_900526_4194304/sockets/plasma_store"
    assert len(name + socket_name) <= 107
