"""What checkpoints that go to an S3 server cost training.

    python tests/benchmarks/checkpoints.py [--pairs 3] [--seconds 60]

The energy-based model at 32x32 with 51,200 chains, whose checkpoint has 210 MB; one worker of one thread.
With a checkpoint every 20 seconds to Ceph's object gateway on this machine, against none: they take turns,
and the throughput is that between the first and the last step of each. The server has the other core to
itself, with the worker's background threads. The stall is the time that the training thread spent on a
checkpoint, the median of all, against one copy of the same bytes in memory at the same pace: one every 20
seconds goes into memory that nobody has touched for as long, which takes longer than one after the other.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import ceph
import jobs
from lehr import checkpoint, journal
from lehr import store as stores
from lehr.launch import admission, local
from lehr.plan import Plan

WARM = 5  # steps left out: they compile
EVERY_S = 20.0
STEP_S = 0.15  # a step takes about so long; only the length of a run depends on it


def plan_of(seconds: int, every: str, url: str, number: int) -> Plan:
    return jobs.plan(
        jobs.EBM,
        "data={kind: digits, image_size: 32, range: [-1, 1]}",
        "train.global_batch=128",
        "sampler={kind: langevin, steps: 20, buffer: {size: 51200}}",
        f"train.duration={{steps: {int(seconds / STEP_S)}}}",
        f"checkpoint={{every: {every}, keep_last: 1}}",
        "validation.every={epochs: 10000}",
        f"storage={url}",
        run_id=f"run-{number}",
    )


def train(plan: Plan) -> tuple[float, list[float], int]:
    """Steps a second, the stall of each checkpoint before the last in seconds, and bytes of one."""
    base = stores.connect(plan.spec.storage)
    run = base.below(plan.run_id)
    admission.prepare(plan, run)
    local.spawn(plan, base)
    entries = journal.read(run)
    steps = [e for e in entries if e["type"] == "metrics" and "time/step_s" in e["values"]]
    saved = {e["step"] for e in entries if e.get("event") == "checkpoint"}
    rate = (len(steps) - WARM) / (steps[-1]["time"] - steps[WARM - 1]["time"])
    # What a checkpoint after step s took is told with the step that follows.
    stalls = [e["values"]["time/checkpoint_s"] for e in steps if e["step"] - 1 in saved]
    manifest = checkpoint.newest(run).manifest
    assert manifest is not None
    return rate, stalls, manifest.size_bytes


def copy_s(count: int) -> float:
    """Seconds of one copy of so many bytes, one every 20 seconds, the median of three."""
    data, taken = np.ones(count, np.uint8), []
    for _ in range(3):
        time.sleep(EVERY_S)
        began = time.perf_counter()
        data.copy()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=60)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ceph.serve(Path(folder)) as server:
        os.environ.update(server.environment())
        url = f"s3://{server.bucket()}"
        ratios, stalls, size = list[float](), list[float](), 0
        for pair in range(arguments.pairs):
            saving = plan_of(arguments.seconds, f"{{minutes: {EVERY_S / 60}}}", url, 2 * pair)
            never = plan_of(arguments.seconds, "{minutes: 100000}", url, 2 * pair + 1)
            with_them, some, size = train(saving)
            without, *_ = train(never)
            ratios.append(with_them / without)
            stalls += some
        one = copy_s(size)
    print(
        f"| training with a checkpoint of {size / 1e6:.0f} MB every 20 s to S3 ({len(stalls)} in all) | none "
        f"| {statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f}) |\n"
        f"| stall of the training thread | one copy of these bytes in memory "
        f"| {statistics.median(stalls) / one:.2f}x ({statistics.median(stalls):.3f} s, "
        f"at most {max(stalls):.3f}, against {one:.3f} s) |"
    )


if __name__ == "__main__":
    main()
