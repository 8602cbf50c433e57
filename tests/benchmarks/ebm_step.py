"""The EBM's training step against the textbook's code and against PyTorch, on the same threads.

    LEHR_TORCH_PYTHON=/path/to/python python tests/benchmarks/ebm_step.py [--rounds 12] [--threads 2]

Each contender is a process of its own that stays up; they take turns, and while one works the others wait.
Two ratios are told: of the least times, since other work on the machine only adds to a time, and the median
over rounds of the ratio within a round. PyTorch is no dependency of lehr: it is looked for in the Python that
LEHR_TORCH_PYTHON names, else in this one, and left out where it is in neither (`pip install torch==2.13.0` in
an environment of its own).
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).with_name("ebm_contenders.py")
TURN = {"lehr": 2, "pytorch": 1, "graph": 1, "eager": 1}  # steps a turn
LABELS = {
    "eager": "the textbook's eager loop",
    "graph": "the same under a plain `tf.function`",
    "pytorch": "the same algorithm in PyTorch on the same threads",
}


class Contender:
    """A process that runs steps when asked."""

    def __init__(self, name: str, python: str, threads: int) -> None:
        self.name = name
        self.seconds: list[float] = []
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        self._process = subprocess.Popen(
            [python, str(PROGRAMS), name, str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, env=environment,
        )  # fmt: skip
        self._answer("ready")

    def turn(self) -> None:
        """Run this contender's share of a round."""
        assert self._process.stdin is not None
        print(TURN[self.name], file=self._process.stdin, flush=True)
        self.seconds.append(float(self._answer()))

    def close(self) -> None:
        """Let the process end."""
        self._process.communicate(timeout=30)

    def _answer(self, expected: str = "") -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line or (expected and line != expected):
            raise SystemExit(f"{self.name} failed: run `python {PROGRAMS.name} {self.name} 2` to see why")
        return line


def torch_python() -> str | None:
    """A Python that has PyTorch, if there is one."""
    named = os.environ.get("LEHR_TORCH_PYTHON")
    if named:
        return named
    return sys.executable if importlib.util.find_spec("torch") else None


def race(names: list[str], *, rounds: int, threads: int) -> dict[str, list[float]]:
    """Seconds a step of each contender in each round."""
    pythons: dict[str, Any] = dict.fromkeys(names, sys.executable) | {"pytorch": torch_python()}
    contenders = [Contender(name, pythons[name], threads) for name in names]
    for number in range(rounds):
        for contender in contenders if number % 2 == 0 else reversed(contenders):
            contender.turn()
    for contender in contenders:
        contender.close()
    return {contender.name: contender.seconds for contender in contenders}


def ratios(seconds: dict[str, list[float]], name: str) -> tuple[float, float]:
    """How many times as fast as `name` lehr is: by the least times, and by the median over rounds."""
    ours, theirs = seconds["lehr"], seconds[name]
    return min(theirs) / min(ours), statistics.median(b / a for a, b in zip(ours, theirs, strict=True))


def table(seconds: dict[str, list[float]]) -> str:
    """Rows for the README."""
    rows = [
        "| what | against | ratio | median of rounds | theirs, ms | lehr, ms |",
        "|---|---|---|---|---|---|",
    ]
    what = "EBM training step (batch 128, 60 Langevin steps, the book's network)"
    for name, label in LABELS.items():
        if name in seconds:
            theirs, ours = (f"{min(seconds[who]) * 1e3:.0f}" for who in (name, "lehr"))
            least, median = ratios(seconds, name)
            rows.append(f"| {what} | {label} | {least:.2f}x | {median:.2f}x | {theirs} | {ours} |")
            what = "the same"
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=list(LABELS), help="one opponent instead of all")
    given = parser.parse_args()
    opponents = [given.only] if given.only else list(LABELS)
    if "pytorch" in opponents and torch_python() is None:
        print("PyTorch left out: set LEHR_TORCH_PYTHON to a Python that has it (torch==2.13.0)")
        opponents.remove("pytorch")
    seconds = race(["lehr", *opponents], rounds=given.rounds, threads=given.threads)
    print(f"{given.threads} threads, {given.rounds} rounds; times are the least:\n")
    print(table(seconds))


if __name__ == "__main__":
    main()
