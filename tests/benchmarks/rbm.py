"""An epoch of a restricted Boltzmann machine on binarised MNIST, against scikit-learn's BernoulliRBM.

    python tests/benchmarks/rbm.py [--threads 1] [--rounds 5] [--batches 100] [--batch 100] [--hidden 500]

Both do persistent contrastive divergence with one Gibbs sweep a batch (scikit-learn: SML, Tieleman 2008), on
the same examples in float32, in batches of the same size, with the same number of threads. scikit-learn's own
default, float64, is measured too. A round is `--batches` batches of each contender in turn, each a process of
its own that stays up; what is told is of an epoch of 600 such batches of 100. lehr's step is the whole of
training: batches cut from the data, the compiled step, chains to the host and back.

MNIST is read from LEHR_TEST_DATA, else from ../shared/data beside the checkout.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

EXAMPLES = 60_000
LABELS = {"sklearn32": "BernoulliRBM, float32", "sklearn64": "BernoulliRBM, float64 (its default)"}


def data_root() -> str:
    """Where the data sets are."""
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    return os.environ.get("LEHR_TEST_DATA", str(beside))


def lehr_turn(given: argparse.Namespace) -> Callable[[int], None]:
    """Runs batches of the platform's own training step."""
    import numpy as np

    from lehr import plan as plans
    from lehr import spec as specs
    from lehr.loop.step import SIGNALS
    from lehr.strategies import devices
    from lehr.strategies.strategy import make
    from lehr.worker.build import build

    job = f"""
version: 1
name: rbm
model: {{kind: rbm, hidden: {given.hidden}}}
data: {{kind: mnist, levels: 2, root: {data_root()}}}
train: {{global_batch: {given.batch}, duration: {{epochs: 1}}, optimizer: {{kind: sgd, learning_rate: 0.1}}}}
sampler: {{kind: gibbs, steps: 1, persistent: true}}
strategy: {{kind: single, cpus_per_worker: {given.threads}}}
"""
    plan = plans.make(specs.parse(job))
    devices.configure(threads=given.threads, devices=1, side_by_side=plan.side_by_side)
    built = build(plan, make("single", devices=1))
    batches, memory = built.feed.batches(0), built.memory
    assert memory is not None, "the chains are persistent"
    step = 0

    def turn(count: int) -> None:
        nonlocal step
        for _ in range(count):
            batch = next(batches) | memory.draw(step) | {"signals": np.zeros(SIGNALS, np.float32)}
            [found] = built.update([batch])
            memory.keep(step, {"chain": np.asarray(found["chain"])})
            step += 1

    return turn


def sklearn_turn(given: argparse.Namespace, kind: str) -> Callable[[int], None]:
    """Runs batches of scikit-learn's machine, which learns from one at a time by `partial_fit`."""
    import numpy as np
    from sklearn import set_config
    from sklearn.neural_network import BernoulliRBM
    from threadpoolctl import threadpool_limits

    from lehr import spec as specs
    from lehr.data.idx import load_mnist

    set_config(assume_finite=True)  # no look at each number of each batch
    threadpool_limits(given.threads)
    job = "version: 1\nname: x\nmodel: {kind: rbm}\nsampler: {kind: gibbs}\n"
    job += f"data: {{kind: mnist, levels: 2, root: {data_root()}}}\n"
    job += "train: {global_batch: 1, duration: {epochs: 1}, optimizer: {kind: sgd, learning_rate: 0.1}}\n"
    images, _ = load_mnist(specs.parse(job).data, "train").take(np.arange(EXAMPLES))
    data = images.reshape(EXAMPLES, -1).astype(np.float32 if kind == "sklearn32" else np.float64)
    order = np.random.default_rng(0).permutation(EXAMPLES)
    machine = BernoulliRBM(given.hidden, learning_rate=0.1, batch_size=given.batch, random_state=0)
    done = 0

    def turn(count: int) -> None:
        nonlocal done
        for _ in range(count):
            rows = order[done * given.batch % EXAMPLES :][: given.batch]
            machine.partial_fit(data[rows])
            done += 1

    return turn


def contender(given: argparse.Namespace) -> None:
    """Answer each line, a number of batches, with the seconds that they took."""
    make = lehr_turn(given) if given.contender == "lehr" else sklearn_turn(given, given.contender)
    make(5)
    print("ready", flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        make(int(line))
        print(time.perf_counter() - began, flush=True)


def race(given: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each contender in each round."""
    threads = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(given.threads)
    )
    command = [sys.executable, __file__, *sys.argv[1:], "--contender"]
    there = {
        name: subprocess.Popen(
            [*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | threads | {"TF_CPP_MIN_LOG_LEVEL": "3"}, stderr=subprocess.DEVNULL,
        )
        for name in ("lehr", *LABELS)
    }  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in there}
    for process in there.values():
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            raise SystemExit("a contender failed: run with --contender NAME to see why")
    for number in range(given.rounds):
        for name in list(there) if number % 2 == 0 else list(reversed(there)):
            process = there[name]
            assert process.stdin is not None
            assert process.stdout is not None
            print(given.batches, file=process.stdin, flush=True)
            seconds[name].append(float(process.stdout.readline()))
    for process in there.values():
        process.communicate(timeout=30)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, default in (("threads", 1), ("rounds", 5), ("batches", 100), ("batch", 100), ("hidden", 500)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--contender", choices=["lehr", *LABELS], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.contender:
        contender(given)
        return
    seconds = race(given)
    epoch = EXAMPLES / given.batch / given.batches
    print(
        f"{given.threads} threads, batch {given.batch}, {given.hidden} hidden units, {given.rounds} rounds\n"
    )
    print("| against | ratio of least times | median of rounds | theirs, s an epoch | lehr, s an epoch |")
    print("|---|---|---|---|---|")
    ours = seconds["lehr"]
    for name, label in LABELS.items():
        theirs = seconds[name]
        median = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
        times = f"{min(theirs) * epoch:.1f} | {min(ours) * epoch:.1f}"
        print(f"| {label} | {min(theirs) / min(ours):.2f}x | {median:.2f}x | {times} |")


if __name__ == "__main__":
    main()
