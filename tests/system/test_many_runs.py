"""A thousand runs in one bucket of a real S3 server: `lehr runs` lists, whatever lies below."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote, urlsplit

import pytest

from ceph import Server
from faults import Proxy
from lehr.index import ROOT, Summary
from lehr.store import connect

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.s3]
RUNS = 1000
CHECKPOINTS = 10  # 14 pages of keys, where 4 answers are allowed; tests/benchmarks/many_runs.py writes 100
WRITERS, AT_ONCE = 8, 64  # connections, and requests under way on each
PAGE = 1000  # keys of an answer


def names(checkpoints: int) -> list[str]:
    """The keys of one run."""
    folders = [f"checkpoints/step-{100 * number:08d}.a1" for number in range(1, checkpoints + 1)]
    return ["plan.json", "status.json", "journal/attempt-0001.jsonl",
            *(f"{folder}/manifest.json" for folder in folders)]  # fmt: skip


def keys(prefix: str, runs: int, checkpoints: int) -> Iterator[str]:
    """Every key of a storage with so many runs and their entries in the index."""
    for number in range(runs):
        run = f"run-{number:04d}"
        told = Summary("completed", 100 * checkpoints, 100 * checkpoints, 1, time.time(),
                       f"step-{100 * checkpoints:08d}.a1", ("train/loss", 0.25))  # fmt: skip
        yield f"{prefix}/{ROOT}/{run}/{told.name}"
        yield from (f"{prefix}/{run}/{name}" for name in names(checkpoints))


def public_bucket(server: Server) -> str:
    """A bucket in which anybody may write: so many requests need not be signed."""
    name = server.bucket()
    server.client().put_bucket_acl(Bucket=name, ACL="public-read-write")
    return name


def fill(server: Server, bucket: str, all_keys: list[str]) -> None:
    """Put a small object at each of the keys, several requests at once on several connections."""
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(lambda first: _put(server, bucket, all_keys[first::WRITERS]), range(WRITERS)))


def _put(server: Server, bucket: str, mine: list[str]) -> None:
    address = urlsplit(server.endpoint)
    with socket.create_connection((address.hostname or "", address.port or 80), timeout=60) as connection:
        answers = connection.makefile("rb")
        for first in range(0, len(mine), AT_ONCE):
            some = mine[first : first + AT_ONCE]
            asked = (f"PUT /{bucket}/{quote(key)} HTTP/1.1\r\nHost: {address.netloc}\r\n"
                     "x-amz-acl: public-read\r\nContent-Length: 2\r\n\r\n{}" for key in some)  # fmt: skip
            connection.sendall("".join(asked).encode())
            for _ in some:
                _take(answers)


def _take(answers: object) -> None:
    head = []
    while (line := answers.readline()) not in (b"\r\n", b""):  # type: ignore[attr-defined]
        head.append(line)
    assert head[0].split()[1] == b"200", head
    length = next(
        (int(line.split(b":")[1]) for line in head if line.lower().startswith(b"content-length")), 0
    )
    answers.read(length)  # type: ignore[attr-defined]


def lehr(server: Server, endpoint: str | None, *arguments: str) -> tuple[str, float]:
    """What the command says, and how long it takes."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "lehr", *arguments], capture_output=True, text=True,
                          env=os.environ | server.environment(endpoint), check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout, time.monotonic() - began


def test_a_thousand_runs_are_listed_and_not_read(s3: Server, capsys: pytest.CaptureFixture[str]) -> None:
    bucket = public_bucket(s3)
    fill(s3, bucket, list(keys("team", RUNS, CHECKPOINTS)))
    storage = f"s3://{bucket}/team"
    with Proxy(s3.endpoint) as proxy:
        said, _ = lehr(s3, proxy.url, "runs", "--storage", storage)
        requests = list(proxy.requests)
    head, *rows = said.splitlines()
    assert head.split()[:2] == ["run", "status"]
    assert [row.split()[0] for row in rows] == [f"run-{number:04d}" for number in range(RUNS)]
    step = 100 * CHECKPOINTS
    cells = ["completed", f"{step}/{step}", "1", "train/loss", "0.25", f"step-{step:08d}.a1"]
    assert all(row.split()[1:7] == cells for row in rows)
    assert all(request.method == "GET" and "list-type=2" in request.path for request in requests)
    assert len(requests) <= 2 * (RUNS // PAGE + 1), "pages of runs and pages of the index"
    _, took_s = lehr(s3, None, "runs", "--storage", storage)
    with capsys.disabled():
        print(f"\nlehr runs: {RUNS} runs of {CHECKPOINTS} checkpoints in {took_s:.2f} s")


def test_what_the_index_lacks_is_read(s3: Server) -> None:
    bucket = public_bucket(s3)
    fill(s3, bucket, [key for key in keys("team", 3, 2) if not key.startswith(f"team/{ROOT}/run-0001")])
    ghost = Summary("completed", 1, 1, 1, time.time()).name
    connect(f"s3://{bucket}/team", s3.options()).write(f"{ROOT}/deleted/{ghost}", b"")
    said, _ = lehr(s3, None, "runs", "--storage", f"s3://{bucket}/team")
    rows = [line.split() for line in said.splitlines()]
    assert [row[0] for row in rows[1:]] == ["run-0000", "run-0001", "run-0002"]
    assert rows[2][1] == "started", "read: it has an attempt and no status"
