"""How long `lehr runs` takes for 1,000 runs of 100 checkpoints in a bucket of a real S3 server.

    PYTHONPATH=tests python tests/benchmarks/many_runs.py [--runs 1000] [--checkpoints 100]

Each checkpoint is its manifest; all objects are small, some 104,000 of them. Needs Ceph's packages.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import ceph
from system.test_many_runs import fill, keys, lehr, public_bucket

REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--checkpoints", type=int, default=100)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ceph.serve(Path(folder)) as server:
        bucket, began = public_bucket(server), time.monotonic()
        all_keys = list(keys("team", asked.runs, asked.checkpoints))
        fill(server, bucket, all_keys)
        print(f"{len(all_keys):,} objects written in {time.monotonic() - began:.0f} s", flush=True)
        took = []
        for _ in range(REPEATS):
            said, seconds = lehr(server, None, "runs", "--storage", f"s3://{bucket}/team")
            assert len(said.splitlines()) == asked.runs + 1
            took.append(seconds)
        print(f"lehr runs: {statistics.median(took):.2f} s (median of {REPEATS}; {min(took):.2f} to "
              f"{max(took):.2f}), Python's start included")  # fmt: skip


if __name__ == "__main__":
    main()
