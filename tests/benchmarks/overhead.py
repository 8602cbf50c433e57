"""The platform against a bare loop over the same compiled step.

    python tests/benchmarks/overhead.py [--pairs 3] [--steps 36]

The book's energy-based model at 32x32, batch 128, 60 Langevin steps, one worker of two threads. The platform
writes its journal at every step, a checkpoint of 33 MiB every epoch (12 steps), and W&B's offline file. The
bare loop makes batches, draws chains and calls the step. They take turns, each in a process of its own.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import jobs
from lehr import journal
from lehr.launch import admission, local
from lehr.plan import Plan

WARM = 3  # steps left out: they compile


def plan_of(steps: int) -> Plan:
    return jobs.plan(
        jobs.EBM,
        "data={kind: digits, image_size: 32, range: [-1, 1]}",
        "train.global_batch=128",
        "sampler={kind: langevin}",
        "strategy={kind: single, cpus_per_worker: 2}",
        f"train.duration={{steps: {steps + WARM}}}",
        "checkpoint.every={epochs: 1}",
        "validation.every={epochs: 1000}",
        "tracking={every: {steps: 1}, wandb: {project: lehr, mode: offline}}",
    )


def platform(steps: int) -> float:
    """Seconds a step, from the journal's clock: everything between two steps is in it."""
    plan = plan_of(steps)
    with tempfile.TemporaryDirectory() as folder:
        storage = jobs.storage(Path(folder))
        run = storage.below(plan.run_id)
        admission.prepare(plan, run)
        local.spawn(plan, storage)
        entries = [e for e in journal.read(run) if e["type"] == "metrics" and "time/step_s" in e["values"]]
    return (entries[-1]["time"] - entries[WARM - 1]["time"]) / (len(entries) - WARM)


def bare(steps: int) -> float:
    """Seconds a step of the loop in a process of its own."""
    command = [sys.executable, __file__, "--bare", "--steps", str(steps)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def bare_loop(steps: int) -> float:
    import numpy as np

    from lehr.loop.step import SIGNALS
    from lehr.strategies import devices
    from lehr.strategies.strategy import make
    from lehr.worker.build import build

    plan = plan_of(steps)
    devices.configure(threads=plan.threads_per_worker, devices=1, side_by_side=True)
    built = build(plan, make("single", devices=1))
    assert built.memory is not None
    signals, began = np.zeros(SIGNALS, np.float32), 0.0
    for step in range(steps + WARM):
        if step == WARM:
            began = time.perf_counter()
        batch = built.feed.batch(step) | built.memory.draw(step) | {"signals": signals}
        [result] = built.update([batch])
        built.memory.keep(step, {"chain": np.asarray(result["chain"])})
    return (time.perf_counter() - began) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=36)
    parser.add_argument("--bare", action="store_true", help="only the bare loop, in this process")
    arguments = parser.parse_args()
    if arguments.bare:
        print(bare_loop(arguments.steps))
        return
    pairs = [(platform(arguments.steps), bare(arguments.steps)) for _ in range(arguments.pairs)]
    ratios = [loop / whole for whole, loop in pairs]
    whole, loop = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(
        f"| platform against a bare loop of the same step | {statistics.median(ratios):.2f}x "
        f"({min(ratios):.2f} to {max(ratios):.2f}) | {whole:.3f} s against {loop:.3f} s a step |"
    )


if __name__ == "__main__":
    main()
