"""From a host's death to the first step after it, split: what takes how long.

    PYTHONPATH=tests:cluster/hosts python tests/benchmarks/host_death.py [--times 3] [--health ray]

An elastic run of two Horovod workers on namespaced hosts (root on Linux), with storage in S3 beside them. One
host loses its power in the middle; the other goes on alone. Printed for each time and as the median:

- detection: until the controller writes that the attempt has failed ("noticed" in the journal);
- restart: until the new worker begins to look for a checkpoint: its process, TensorFlow, the rendezvous, the
  data and the model;
- restore: until it has the checkpoint's state, as its start entry says ("nan" where that does not tell);
- first step: from there to the first entry of metrics, with its compilation.

All are wall clock times of this one machine, so the hosts agree on them.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import ceph
import network
import sites
from lehr import journal
from lehr.store import Store
from ray_hosts import HEALTH
from sites import Site, starts

AT = 10
PARTS = ("detection", "restart", "restore", "first step", "all")


def death(site: Site, number: int) -> dict[str, float]:
    """One death, in seconds."""
    run = site.submit(f"death-{number}", "strategy={kind: horovod, workers: [1, 2]}")
    site.until_step(AT, run)
    lost = site.cluster.workers[1]
    died = time.time()
    lost.kill()
    site.until_completed(run)
    site.back(lost)
    return split(died, run)


def split(died: float, run: Store) -> dict[str, float]:
    entries = journal.read_attempt(run, 2)
    noticed = next(float(entry["noticed"]) for entry in entries if entry.get("event") == "restarted")
    start = starts(run)[1]
    began, restored_s = float(start["time"]), float(start.get("restore_s", "nan"))  # type: ignore[arg-type]
    stepped = next(float(entry["time"]) for entry in entries if entry["type"] == "metrics")
    restarted_s = began - noticed - (0.0 if math.isnan(restored_s) else restored_s)
    seconds = (noticed - died, restarted_s, restored_s, stepped - began, stepped - died)
    return dict(zip(PARTS, seconds, strict=True))


def show(name: str, found: dict[str, float]) -> None:
    print(f"| {name} | " + " | ".join(f"{found[part]:.1f} s" for part in PARTS) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--health", choices=("harness", "ray"), default="harness", help="whose health checks")
    asked = parser.parse_args()
    if reason := network.lacking() or ceph.lacking():
        sys.exit(f"host_death: {reason}")
    health = HEALTH if asked.health == "harness" else {}
    with (
        tempfile.TemporaryDirectory() as folder,
        ceph.serve(Path(folder)) as server,
        sites.site(server, Path(folder), health=health) as site,
    ):
        print("| | " + " | ".join(PARTS) + " |")
        found = []
        for number in range(1, asked.times + 1):
            found.append(death(site, number))
            show(str(number), found[-1])
        show("median", {part: statistics.median(each[part] for each in found) for part in PARTS})
    print(f"{os.cpu_count()} cores for all hosts, load {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
