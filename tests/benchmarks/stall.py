"""How long `Saver.save` holds the training thread, against one copy of the same bytes in memory.

    python tests/benchmarks/stall.py [--mb 200] [--repeats 7]

The snapshot itself, which is that one copy, is made by the caller before `save`. The worst pause is the
longest of the training thread while the saver works in the background: its threads take the interpreter's
lock, too.
"""

from __future__ import annotations

import argparse
import tempfile
import time

import numpy as np

from lehr import store
from lehr.checkpoint import Saver, State

TICK_S = 0.0005


def arrays(mb: int) -> dict[str, np.ndarray]:
    """A large array and many small ones."""
    numbers = np.random.default_rng(0)
    small = {f"small-{i:03d}": numbers.standard_normal(1000).astype(np.float32) for i in range(100)}
    return {"large": numbers.integers(0, 255, mb * 10**6, np.uint8), **small}


def copied(weights: dict[str, np.ndarray]) -> tuple[float, dict[str, np.ndarray]]:
    """Seconds of one copy, and the copy."""
    began = time.perf_counter()
    copy = {name: np.copy(array) for name, array in weights.items()}
    return time.perf_counter() - began, copy


def longest_pause(saver: Saver) -> float:
    """Seconds by which the calling thread was ever late while the saver was at work."""
    worst = 0.0
    while saver.waiting:
        began = time.perf_counter()
        time.sleep(TICK_S)
        worst = max(worst, time.perf_counter() - began - TICK_S)
    return worst


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mb", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    weights = arrays(given.mb)
    with tempfile.TemporaryDirectory() as folder:
        saver = Saver(store.connect(folder), rank=0, workers=1, attempt=1)
        rows = []
        for step in range(1, given.repeats + 1):
            copy_s, snapshot = copied(weights)
            began = time.perf_counter()
            saver.save(step, State(snapshot, {}, {}, 0, 0), {})
            stall_s = time.perf_counter() - began
            del snapshot
            worst_s = longest_pause(saver)
            took_s = time.perf_counter() - began
            rows.append((copy_s, stall_s, worst_s, took_s))
        assert saver.wait() == given.repeats
        saver.close()
    copy_s, stall_s, worst_s, took_s = np.median(np.asarray(rows), axis=0)
    print(f"{given.mb} MB, median of {given.repeats}")
    print(f"copy in memory        {1e3 * copy_s:9.2f} ms")
    print(f"save, on this thread  {1e3 * stall_s:9.2f} ms   ratio {stall_s / copy_s:.4f}")
    print(f"worst pause meanwhile {1e3 * worst_s:9.2f} ms   ratio {worst_s / copy_s:.4f}")
    print(f"committed after       {1e3 * took_s:9.2f} ms")


if __name__ == "__main__":
    main()
