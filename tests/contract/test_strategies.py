"""Every strategy passes the same program, and gives the same numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from lehr.launch import rendezvous
from lehr.launch.rendezvous import LOOPBACK, Place, Port

PROGRAM = Path(__file__).with_name("strategy_program.py")
CASES = {"single": (1, 1), "mirrored": (1, 2), "multiworker": (2, 1), "horovod": (2, 1)}


def start(kind: str, workers: int, devices: int, out: Path, *fault: str) -> list[int]:
    """Run the program on every worker; their exit codes."""
    with ExitStack() as stack:
        ports = [Port(LOOPBACK) for _ in range(workers)]
        for port in ports:
            stack.callback(port.close)
        interface = rendezvous.interface(LOOPBACK)
        meeting = rendezvous.meet(kind, [Place("localhost", LOOPBACK, interface, p.number) for p in ports])
        stack.callback(meeting.close)
        command = [sys.executable, str(PROGRAM), kind, str(devices), str(out), *fault]
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}
        processes = [
            subprocess.Popen(
                command, env=os.environ | quiet | mine, stdout=log(out), stderr=subprocess.STDOUT
            )
            for mine in meeting.environments
        ]
        codes = []
        for process in processes:
            try:
                # Once one has found the fault the others may wait for it in an exchange.
                codes.append(process.wait(timeout=120 if not any(codes) else 5))
            except subprocess.TimeoutExpired:
                process.kill()
                codes.append(process.wait())
        return codes


def log(out: Path) -> int:
    return os.open(f"{out}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    out = tmp_path_factory.mktemp("single") / "out"
    assert start("single", 1, 1, out) == [0], Path(f"{out}.log").read_text()
    return dict(np.load(f"{out}.0.npz"))


@pytest.mark.system
@pytest.mark.parametrize("kind", ["mirrored", "multiworker", "horovod"])
def test_it_trains_as_one_replica_does(kind: str, reference: dict[str, np.ndarray], tmp_path: Path) -> None:
    workers, devices = CASES[kind]
    out = tmp_path / "out"
    assert start(kind, workers, devices, out) == [0] * workers, Path(f"{out}.log").read_text()
    results = [dict(np.load(f"{out}.{rank}.npz")) for rank in range(workers)]
    for result in results:
        assert result["replicas"] == 2
        assert result["numbers"].tolist() == [12345678901234, 3]  # rank 0's, on every rank
        assert result["kept"]
        assert result["moved"]
        assert result["halved"] == 2.0**14
        np.testing.assert_allclose(result["losses"], reference["losses"], rtol=1e-6)
        np.testing.assert_allclose(result["weights"], reference["weights"], rtol=1e-5, atol=1e-7)
        assert (result["weights"] == results[0]["weights"]).all()
    np.testing.assert_array_equal(np.concatenate([r["rows"] for r in results]), reference["rows"])


@pytest.mark.system
@pytest.mark.parametrize(
    ("kind", "fault", "words"),
    [
        ("horovod", "skip", "variable sequential/first/kernel of replica 1"),
        ("horovod", "flip", "variable sequential/second/kernel of replica 1"),
        ("mirrored", "flip", "variable sequential/second/kernel of replica 1"),
        ("horovod", "identity", "a sum over 2 replicas gave [1.0] where 3.0 is right"),
    ],
)
def test_the_guard_names_what_is_wrong(kind: str, fault: str, words: str, tmp_path: Path) -> None:
    workers, devices = CASES[kind]
    out = tmp_path / "out"
    codes = start(kind, workers, devices, out, fault)
    assert 3 in codes, Path(f"{out}.log").read_text()
    assert 0 not in codes
    assert words in Path(f"{out}.txt").read_text()
