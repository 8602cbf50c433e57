"""Scaling over hosts: 1, 2 and 4 workers of one thread, each on a host of its own, beside the calculator.

    PYTHONPATH=cluster/hosts python tests/benchmarks/hosts.py [--steps 10] [--only scaling|links]

Hosts are network namespaces with a Ray cluster over them (root on Linux), so they share the cores of this
machine: with more workers than cores a step cannot get faster, and what `lehr plan --replicas` says of hosts
with a core each is shown beside what it says of this one. Three parts, all by the journals of the runs:

- the digits EBM at batch 128 on 1, 2 and 4 workers by Horovod and by MultiWorkerMirroredStrategy: efficiency,
  and the exchange's share of a step;
- the calculator's steps for 2 and 4 workers from one worker's alone, at two batches;
- the exchange of 4.5 MB by two workers at 50 and 200 Mbit/s, beside the calculator's from the link's label
  and the beginning of an exchange at full speed.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from lehr import forecast
from lehr import store as stores
from lehr.cli.forecast import measured
from lehr.forecast import Known, Link, Measured, Step
from network import Network, lacking
from ray_hosts import Cluster

ROOT = Path(__file__).parents[2]
JOB = str(ROOT / "jobs" / "ebm-digits.yaml")
SIZES = (1, 2, 4)
KINDS = ("horovod", "multiworker")
SLOW = (50.0, 200.0)  # Mbit/s
QUIET = ("samples=null", "checkpoint.every={epochs: 1000}", "validation.every={epochs: 1000}",
         "tracking.wandb=null", "sampler.buffer.size=1024")  # fmt: skip
# A wide dense layer makes 4.5 MB of gradients, and short chains a step that is mostly their exchange.
WIDE = ("model.hidden=4096", "sampler.steps=2")
RUN_S = 240.0


class Runs:
    """Runs of the digits job on a cluster, in a folder on the shared disk."""

    def __init__(self, cluster: Cluster, folder: Path, steps: int) -> None:
        self._cluster, self._folder, self._steps = cluster, folder, steps
        self._count = 0

    def measure(self, kind: str, workers: int, *sets: str) -> Measured:
        """The median step of a run of its own."""
        self._count += 1
        name = f"run-{self._count}"
        wanted = (f"train.duration={{steps: {self._steps + 1}}}", f"strategy.kind={kind}",
                  f"strategy.workers={workers}", *QUIET, *sets)  # fmt: skip
        words = [word for text in wanted for word in ("--set", text)]
        command = [str(Path(sys.executable).with_name("lehr")), "run", JOB, "--run", name]
        place = ["--address", self._cluster.gcs, "--storage", str(self._folder)]
        done = self._cluster.head.run([*command, *place, *words], timeout_s=RUN_S)
        if done.returncode:
            raise SystemExit(f"{name} ({kind}, {workers} workers) failed:\n{done.stdout}{done.stderr}")
        [found] = measured(stores.connect(str(self._folder)).below(name))
        return found


def show(cells: Sequence[object]) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def scaling(runs: Runs, alone: Sequence[Step], cores: int) -> list[str]:
    """Steps of 1, 2 and 4 workers, with the calculator's beside them; lines for the README."""
    model = forecast.fit([Measured(step, 0.0) for step in alone], Known()).model
    first, told = alone[0], []
    show(["strategy", "workers", "step", "efficiency", "exchange", "share", "plan", "here", "off"])
    show(["either", 1, ms(first.step_s), "100%", ms(first.exchange_s), share(first), *["-"] * 3])
    for kind, workers in itertools.product(KINDS, SIZES[1:]):
        found = runs.measure(kind, workers)
        step = found.step
        fresh = model.step(workers, batch=step.batch, size=found.size)
        # Workers that share a core wait for it.
        here = dataclasses.replace(fresh, compute_s=fresh.compute_s * max(1.0, workers / cores))
        gained, off = f"{forecast.efficiency(step, first):.0%}", f"{here.step_s / step.step_s - 1:+.0%}"
        times = [ms(step.step_s), gained, ms(step.exchange_s), share(step), ms(fresh.step_s), ms(here.step_s)]
        show([kind, workers, *times, off])
        told.append(
            f"| {kind}, {workers} workers of one thread on hosts of their own ({cores} cores in all) | one "
            f"such worker, same global batch | {first.step_s / step.step_s:.2f}x, efficiency {gained}; "
            f"the exchange is {share(step)} of a step; `lehr plan` said {ms(here.step_s)}, it took "
            f"{ms(step.step_s)} ({off}) |"
        )
    return told


def share(step: Step) -> str:
    return f"{step.exchange_s / step.step_s:.1%}"


def slow_links(runs: Runs, network: Network) -> list[str]:
    """The exchange of two workers over links of a known speed, beside the calculator's; lines as above."""
    label = Known(forecast.ASSUMED.byte_s, forecast.ASSUMED.latency_s)
    full = runs.measure("horovod", 2, *WIDE)
    fitted, told = forecast.fit([full], label).model, []
    show(["link", "bytes", "exchange", "plan", "off", "share of the step"])
    show(["no limit", megabytes(full), ms(full.step.exchange_s), "(fitted)", "-", share(full.step)])
    for speed in SLOW:
        for host in network.hosts[1:]:
            host.slow(megabits_per_s=speed)
        found = runs.measure("horovod", 2, *WIDE)
        link = Link.of(gbits=speed / 1000, latency_us=forecast.ASSUMED.latency_s * 1e6)
        model = dataclasses.replace(fitted, network=forecast.Network(link))
        plan_s, real_s = (
            model.step(2, batch=found.step.batch, size=found.size).exchange_s,
            found.step.exchange_s,
        )
        off = f"{plan_s / real_s - 1:+.0%}"
        show([f"{speed:g} Mbit/s", megabytes(found), ms(real_s), ms(plan_s), off, share(found.step)])
        told.append(
            f"| exchange of {megabytes(found)} over {speed:g} Mbit/s, two workers | what `lehr plan` says | "
            f"{ms(real_s)} against {ms(plan_s)} ({off}) |"
        )
    for host in network.hosts[1:]:
        host.quicken()
    return told


def megabytes(found: Measured) -> str:
    return f"{found.size / 1e6:.1f} MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="that all hosts share")
    parser.add_argument("--only", choices=("scaling", "links"))
    asked = parser.parse_args()
    if reason := lacking():
        sys.exit(f"hosts: {reason}")
    began, load = time.monotonic(), os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory() as folder,
        Network(max(SIZES) + 1) as network,
        Cluster(network, environment={"TF_CPP_MIN_LOG_LEVEL": "3"}) as cluster,
    ):
        runs = Runs(cluster, Path(folder), asked.steps)
        told = []
        if asked.only != "links":
            alone = [runs.measure("horovod", 1, *sets).step for sets in ((), ("train.global_batch=64",))]
            told += scaling(runs, alone, asked.cores)
        if asked.only != "scaling":
            told += slow_links(runs, network)
    print("\n".join(["", *told, ""]))
    print(
        f"{asked.cores} cores for {max(SIZES)} hosts, load {load:.1f} at first; "
        f"{time.monotonic() - began:.0f} s"
    )


if __name__ == "__main__":
    main()
