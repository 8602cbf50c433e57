"""Upload and restore through lehr's store, against plain s3fs put and get of the same bytes.

    python tests/benchmarks/storage.py [--mib 256] [--pairs 5] [--url s3://bucket/prefix]

Without --url a Ceph object gateway is started on this machine; with it, the endpoint and the credentials
come from the environment (AWS_ENDPOINT_URL and so on). They take turns, the first of a pair changing from
pair to pair; a ratio is that of a pair's throughputs, and their median counts. `get` writes a file, which
lies in memory where there is /dev/shm; s3fs's `cat_file`, which like our `read` ends in memory, is there for
comparison. Everything runs on one machine: what the server needs of the processor, the client lacks.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import s3fs

sys.path.insert(0, str(Path(__file__).parents[1]))
import ceph
from lehr.store import Store, connect

TARGETS = {"upload": 0.9, "restore": 1.0}
Work = Callable[[], object]


@contextlib.contextmanager
def place(url: str | None) -> Iterator[str]:
    """The URL to use, with the environment that leads there."""
    if url:
        yield url.rstrip("/")
        return
    if reason := ceph.lacking():
        sys.exit(reason)
    with tempfile.TemporaryDirectory() as folder, ceph.serve(Path(folder)) as server:
        os.environ |= server.environment()
        yield f"s3://{server.bucket()}/benchmark"


def seconds(work: Work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(ours: Work, plain: Work, pairs: int) -> list[tuple[float, float]]:
    """Seconds of both, in pairs; whoever is first in one is second in the next."""
    times = []
    for pair in range(-1, pairs):  # the first warms both up
        order = (ours, plain) if pair % 2 else (plain, ours)
        taken = {id(work): seconds(work) for work in order}
        times.append((taken[id(ours)], taken[id(plain)]))
    return times[1:]


def report(name: str, times: list[tuple[float, float]], mib: int) -> float:
    ratios = [plain / ours for ours, plain in times]
    ratio = statistics.median(ratios)
    ours, plain = (mib / statistics.median(each) for each in zip(*times, strict=True))
    said = f"{name:28} {ours:6.0f} MiB/s, s3fs {plain:6.0f} MiB/s, ratio {ratio:.2f}"
    print(f"{said} ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)
    return ratio


def measure(store: Store, url: str, file: Path, pairs: int) -> dict[str, float]:
    filesystem, mib = s3fs.S3FileSystem(skip_instance_cache=True), file.stat().st_size >> 20
    path, fetched = url.removeprefix("s3://"), file.with_name("fetched")
    upload = compare(
        lambda: store.put("ours", file), lambda: filesystem.put(str(file), f"{path}/plain"), pairs
    )
    ratios = {"upload": report("upload: put, put", upload, mib)}
    assert store.read("ours") == file.read_bytes()
    restore = compare(
        lambda: store.read("ours"), lambda: filesystem.get(f"{path}/plain", str(fetched)), pairs
    )
    ratios["restore"] = report("restore: read, get", restore, mib)
    assert fetched.read_bytes() == file.read_bytes()
    memory = compare(lambda: store.read("ours"), lambda: filesystem.cat_file(f"{path}/plain"), pairs)
    report("into memory: read, cat_file", memory, mib)
    for key in ("ours", "plain"):
        store.delete(key)
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--url", help="an S3 URL to use instead of a server of its own")
    given = parser.parse_args()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with place(given.url) as url, tempfile.TemporaryDirectory(dir=memory) as folder:
        file = Path(folder) / "part"
        file.write_bytes(os.urandom(given.mib << 20))
        ratios = measure(connect(url), url, file, given.pairs)
    missed = {name: ratio for name, ratio in ratios.items() if ratio < TARGETS[name]}
    sys.exit(f"below the target: {missed}" if missed else None)


if __name__ == "__main__":
    main()
