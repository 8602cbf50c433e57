"""What a trial costs beside its training: `lehr sweep` against a function trainable of Ray Tune by hand.

    python tests/benchmarks/sweep.py [--trials 32] [--steps 40] [--pairs 1] [--fresh]

Random trials of a tiny energy-based model on two slots of this machine, none stopped early. A side's wall
clock is that of its command from start to exit, with the start of Ray. The least that it could be is the
sum of the trials' own training divided by the slots; what is above, times the slots, divided by the trials,
is the overhead of a trial. By hand means `sweep_minimal.py`: the same compiled step, so the same training;
both sides must report the same values, bit for bit. It keeps its processes from trial to trial as ours does
(`reuse_actors=True`); with --fresh also as Tune has it by default, where each trial loads TensorFlow anew.
Sides take turns; where other work comes and goes, only the ratios of a pair mean something.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lehr import journal, spec
from lehr import store as stores
from lehr.sweep.records import History

LEHR = str(Path(sys.executable).with_name("lehr"))
MINIMAL = str(Path(__file__).with_name("sweep_minimal.py"))
SLOTS, METRIC, VALIDATIONS = 2, "validation/contrastive_divergence", 5
JOB = f"""
version: 1
name: short
model: {{kind: ebm, filters: [8, 16], hidden: 16}}
data: {{kind: digits, image_size: 16, range: [-1, 1], train_examples: 512, validation_examples: 128}}
train: {{global_batch: 32, duration: {{steps: 40}}, optimizer: {{kind: adam, learning_rate: 1.0e-3}}}}
sampler: {{kind: langevin, steps: 10, buffer: {{size: 256}}}}
strategy: {{kind: single, gpus: false}}
checkpoint: {{every: {{steps: 100000}}}}
search:
  space:
    train.optimizer.learning_rate: {{log: [1.0e-5, 1.0e-2]}}
    sampler.step_size: {{log: [1, 100]}}
  metric: {METRIC}
  concurrent: {SLOTS}
"""


@dataclass(frozen=True)
class Side:
    """How one way of doing it went.

    Args:
        wall_s: of the whole command.
        train_s: by trial, as measured in it.
        values: last value of the metric, by trial.
    """

    wall_s: float
    train_s: list[float]
    values: list[float]

    def overhead_s(self, train_s: float) -> float:
        """Of a trial, if `train_s` is what all trials trained."""
        return (self.wall_s * SLOTS - train_s) / len(self.values)


def command(folder: Path, *words: str) -> tuple[float, str]:
    """Seconds and last line of a command."""
    began = time.perf_counter()
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return taken, done.stdout.strip().splitlines()[-1]


def ours(folder: Path, file: Path) -> tuple[Side, list[dict[str, Any]]]:
    """`lehr sweep`, and the parameters that it proposed."""
    wall_s, _ = command(folder, LEHR, "sweep", str(file), "--storage", str(folder))
    history = History.read(journal.read(stores.connect(str(folder)).below("short")))
    trials = [history.trials[number] for number in sorted(history.trials)]
    values = [trial.last.value for trial in trials]
    assert None not in values
    side = Side(wall_s, [trial.last.train_s for trial in trials], values)  # type: ignore[arg-type]
    return side, [trial.parameters for trial in trials]


def by_hand(folder: Path, job: dict[str, Any], *words: str) -> Side:
    """The same trials without lehr's sweep."""
    file = folder / "job.json"
    file.write_text(json.dumps(job))
    wall_s, said = command(folder, sys.executable, MINIMAL, str(file), str(SLOTS), *words)
    values, train_s = zip(*json.loads(said), strict=True)
    return Side(wall_s, list(train_s), list(values))


def row(name: str, side: Side, train_s: float) -> str:
    """A line of the table."""
    least = sum(side.train_s) / SLOTS
    own, same = side.overhead_s(sum(side.train_s)), side.overhead_s(train_s)
    times = f"{side.wall_s:.1f} s | {least:.1f} s | {side.wall_s / least:.2f}x"
    return f"| {name} | {times} | {own:.2f} s | {same:.2f} s |"


def pair(trials: int, steps: int, *, fresh: bool) -> tuple[float, float]:
    """Run both sides and print what they took: ratios of overhead, by each side's own training and by the
    same."""
    every = max(1, steps // VALIDATIONS)
    sets = [f"{key}.every={{steps: {every}}}" for key in ("tracking", "validation")]
    sets += [f"search.trials={trials}", f"train.duration={{steps: {steps}}}"]
    text = spec.text(spec.parse(JOB, sets=sets))
    with tempfile.TemporaryDirectory(prefix="lehr-sweep-") as name:
        folder = Path(name)
        file = folder / "short.yaml"
        file.write_text(text)
        mine, parameters = ours(folder, file)
        alone = spec.text(spec.parse(text, sets=["search=null"]))
        job = {"text": alone, "every": every, "metric": METRIC, "trials": parameters}
        theirs = by_hand(folder, job)
        others = [("by hand, a process a trial", by_hand(folder, job, "--fresh"))] if fresh else []
    if mine.values != theirs.values:
        sys.exit(f"they did not train the same:\n{mine.values}\n{theirs.values}")
    same = sum(theirs.train_s)
    print("| | wall clock | training / slots | ratio | overhead of a trial | by the same training |")
    for title, side in (("`lehr sweep`", mine), ("by hand", theirs), *others):
        print(row(title, side, same), flush=True)
    own = mine.overhead_s(sum(mine.train_s)) / theirs.overhead_s(same)
    return own, mine.overhead_s(same) / theirs.overhead_s(same)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="also with a new process for each trial")
    given = parser.parse_args()
    ratios = [pair(given.trials, given.steps, fresh=given.fresh) for _ in range(given.pairs)]
    own, same = (statistics.median(side) for side in zip(*ratios, strict=True))
    print(f"overhead of a trial, ours / by hand: {own:.2f} (by the same training {same:.2f}); at most 1.1")


if __name__ == "__main__":
    main()
