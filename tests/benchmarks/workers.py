"""Two workers of one thread each against one worker of one thread: the same job, the same global batch.

    python tests/benchmarks/workers.py [--pairs 3] [--steps 6]

The book's energy-based model at 32x32, batch 128, 60 Langevin steps. Each run is a whole job of its own,
without Ray; one worker and two workers take turns. Quoted is the ratio of the median seconds a step, pair
by pair.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import jobs
from lehr import journal
from lehr.launch import admission, local

BOOK = (
    "data={kind: digits, image_size: 32, range: [-1, 1]}",
    "train.global_batch=128",
    "sampler={kind: langevin}",
    "checkpoint.every={epochs: 1000}",
    "validation.every={epochs: 1000}",
)


def seconds_a_step(kind: str, workers: int, steps: int) -> float:
    """Median of the steps of one job, the first two left out: they compile."""
    sets = (*BOOK, f"train.duration={{steps: {steps + 2}}}", f"strategy={{kind: {kind}, workers: {workers}}}")
    plan = jobs.plan(jobs.EBM, *sets)
    with tempfile.TemporaryDirectory() as folder:
        storage = jobs.storage(Path(folder))
        run = storage.below(plan.run_id)
        admission.prepare(plan, run)
        local.spawn(plan, storage)
        values = [e["values"] for e in journal.read(run) if e["type"] == "metrics"]
    return statistics.median([v["time/step_s"] for v in values if "time/step_s" in v][2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--kinds", default="horovod,multiworker")
    arguments = parser.parse_args()
    for kind in arguments.kinds.split(","):
        pairs = [
            (seconds_a_step("horovod", 1, arguments.steps), seconds_a_step(kind, 2, arguments.steps))
            for _ in range(arguments.pairs)
        ]
        ratios = [one / two for one, two in pairs]
        one, two = (statistics.median(side) for side in zip(*pairs, strict=True))
        print(
            f"| {kind}: 2 workers against 1, a thread each | {statistics.median(ratios):.2f}x "
            f"({min(ratios):.2f} to {max(ratios):.2f}) | {two:.3f} s against {one:.3f} s a step |",
            flush=True,
        )


if __name__ == "__main__":
    main()
