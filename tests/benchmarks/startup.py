"""How long a user waits: for the command line, and from `lehr run` to the first step.

    python tests/benchmarks/startup.py [--pairs 3]

The first step is that of `jobs/ebm-digits.yaml`: two Horovod workers on a Ray cluster that is started for it.
Against it, `minimal.py`: a hand-written Ray Train script with the same model. They take turns; where other
work comes and goes the times mean little, so the table gives the ratio of each pair, too.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lehr import journal
from lehr import store as stores

ROOT = Path(__file__).parents[2]
JOB = str(ROOT / "jobs" / "ebm-digits.yaml")
LEHR = str(Path(sys.executable).with_name("lehr"))


def command_s(*arguments: str, times: int = 5) -> float:
    """Median seconds of `lehr ARGUMENTS`, from start to exit."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run([LEHR, *arguments], check=True, capture_output=True)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def lehr_s() -> float:
    """Seconds from `lehr run` to the end of the first step, by the clock of the journal."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.time()
        command = [
            LEHR,
            "run",
            JOB,
            "--storage",
            folder,
            "--set",
            "train.duration={steps: 1}",
            "--set",
            "samples=null",
        ]
        subprocess.run(command, check=True, capture_output=True)
        entries = journal.read(stores.connect(folder).below("ebm-digits"))
    first = next(
        e for e in entries if e["type"] == "metrics" and e["step"] == 1 and "time/step_s" in e["values"]
    )
    return float(first["time"]) - began


def minimal_s() -> float:
    """Seconds from the start of the hand-written script to the end of its first step."""
    began = time.time()
    command = [sys.executable, str(Path(__file__).with_name("minimal.py"))]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(said.split()[-1]) - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=3)
    pairs = parser.parse_args().pairs
    print(f"| `lehr --help` | {command_s('--help'):.2f} s | under 0.5 s |", flush=True)
    print(f"| `lehr check FILE` | {command_s('check', JOB):.2f} s | under 1 s |", flush=True)
    found = [(lehr_s(), minimal_s()) for _ in range(pairs)]
    ratios = [ours / theirs for ours, theirs in found]
    ours, theirs = (statistics.median(side) for side in zip(*found, strict=True))
    print(
        f"| `lehr run` to the first step, against a hand-written Ray Train script | "
        f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f}) | "
        f"{ours:.1f} s against {theirs:.1f} s |"
    )


if __name__ == "__main__":
    main()
