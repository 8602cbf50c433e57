"""Gauges of a run arrive in a real Prometheus, and so does what rules and dashboard ask for."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import psutil
import pytest

import jobs
import ray_head

pytestmark = [pytest.mark.system, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "cluster" / "monitoring"
RUN = "watched"
WAIT_S = 240.0
GAUGES = {
    "ray_lehr_step", "ray_lehr_step_seconds", "ray_lehr_examples_per_second", "ray_lehr_uploaded_bytes",
    "ray_lehr_checkpoint_age_seconds", "ray_lehr_attempt", "ray_lehr_workers",
}  # fmt: skip
# A host without GPUs exports nothing of them; Ray's own panels ask for the same names.
OF_GPUS = {"ray_node_gpus_utilization", "ray_node_gram_used"}


@pytest.fixture(scope="module", autouse=True)
def _programs() -> None:
    if not (shutil.which("prometheus") and shutil.which("promtool")):
        pytest.skip("needs prometheus and promtool: apt-get install --no-install-recommends prometheus")


class Prometheus:
    """One that runs.

    Args:
        url: its address.
        run: the driver of the run that it watches.
    """

    def __init__(self, url: str, run: subprocess.Popen[bytes]) -> None:
        self.url, self.run = url, run

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """Series and values that an expression gives now; raises when it is no expression."""
        with urlopen(f"{self.url}/api/v1/query?{urlencode({'query': expression})}") as answer:
            return list(json.load(answer)["data"]["result"])

    def wait(self, expression: str, *, series: int = 1) -> list[dict[str, Any]]:
        """What it gives, once it has so many series."""
        until, found = time.monotonic() + WAIT_S, []
        while time.monotonic() < until:
            try:
                found = self.ask(expression)
            except URLError:
                found = []
            if len(found) >= series:
                return found
            time.sleep(1.0)
        raise AssertionError(f"{expression} gives {found}")


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus with our configuration beside a Ray head on which a run of two workers trains."""
    folder = tmp_path_factory.mktemp("gauges")
    with ray_head.head(cpus=3) as head:
        run = _train(head, folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        discovery = Path(head.home).parent / "r" / "prom_metrics_service_discovery.json"
        server = subprocess.Popen(
            ["prometheus", f"--config.file={_configuration(folder, discovery)}",
             f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"],
            stdout=(folder / "prometheus.log").open("wb"), stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            yield Prometheus(f"http://127.0.0.1:{port}", run)
        finally:
            _end(server)
            _end(run)


def _configuration(folder: Path, discovery: Path) -> Path:
    """Ours, with the head's own folder in Ray's place, and quicker."""
    text = (MONITORING / "prometheus.yml").read_text()
    assert "/tmp/ray/prom_metrics_service_discovery.json" in text
    text = text.replace("/tmp/ray/prom_metrics_service_discovery.json", str(discovery))
    text = text.replace("rules.yml", str(MONITORING / "rules.yml"))
    file = folder / "prometheus.yml"
    file.write_text(re.sub(r"(interval): \d+s", r"\1: 2s", text))
    return file


def _end(process: subprocess.Popen[bytes]) -> None:
    below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    for each in [*below, process]:
        with contextlib.suppress(psutil.Error, OSError):
            each.kill()
    process.wait()


def _train(head: ray_head.Head, folder: Path) -> subprocess.Popen[bytes]:
    """A run on it that lasts longer than the tests."""
    job = folder / "job.yaml"
    job.write_text(f"{jobs.LENET}\nstrategy: {{kind: horovod, workers: 2}}\nstorage: {folder / 'runs'}\n")
    sets = ["train.duration={steps: 1000000}", "checkpoint.every={steps: 200}", "tracking.every={steps: 20}"]
    words = [word for each in sets for word in ("--set", each)]
    return subprocess.Popen(
        [sys.executable, "-m", "lehr", "run", str(job), "--run", RUN, "--address", head.gcs, *words],
        env=head.environment,
        stdout=(folder / "run.log").open("wb"),
        stderr=subprocess.STDOUT,
    )


def test_each_rank_is_seen(prometheus: Prometheus) -> None:
    for name in sorted(GAUGES - {"ray_lehr_step_seconds"}):
        found = prometheus.wait(f'{name}{{run="{RUN}"}}', series=2)
        assert {each["metric"]["rank"] for each in found} == {"0", "1"}, name
        assert all(each["metric"]["host"] == os.uname().nodename for each in found), name
    phases = prometheus.wait(f'ray_lehr_step_seconds{{run="{RUN}", rank="1"}}', series=4)
    assert {each["metric"]["phase"] for each in phases} == {
        "data", "compute", "exchange", "checkpoint", "other",
    }  # fmt: skip
    assert prometheus.ask(f'min(ray_lehr_workers{{run="{RUN}"}})')[0]["value"][1] == "2"
    assert prometheus.ask(f'max(ray_lehr_attempt{{run="{RUN}"}})')[0]["value"][1] == "1"
    assert float(prometheus.ask(f'max(ray_lehr_uploaded_bytes{{run="{RUN}", rank="0"}})')[0]["value"][1]) > 0


def test_steps_go_on(prometheus: Prometheus) -> None:
    before = float(prometheus.wait(f'max(ray_lehr_step{{run="{RUN}"}})')[0]["value"][1])
    prometheus.wait(f'max(ray_lehr_step{{run="{RUN}"}}) > {before}')


def test_rules_are_loaded_and_know_the_run(prometheus: Prometheus) -> None:
    prometheus.wait(f'lehr:step_seconds{{run="{RUN}"}}')
    with urlopen(f"{prometheus.url}/api/v1/rules") as answer:
        (group,) = json.load(answer)["data"]["groups"]
    assert {rule["name"] for rule in group["rules"]} > {"LehrRunSilent", "LehrCheckpointOld"}
    assert [rule["lastError"] for rule in group["rules"] if "lastError" in rule] == []


def test_dashboard_asks_for_what_is_there(prometheus: Prometheus) -> None:
    prometheus.wait(f'ray_lehr_step{{run="{RUN}"}}', series=2)
    dashboard = json.loads((MONITORING / "grafana" / "dashboards" / "lehr-run.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            expression = target["expr"].replace("$run", RUN)
            if any(name in expression for name in OF_GPUS):
                prometheus.ask(expression)  # that it is an expression
            else:
                prometheus.wait(expression)
    shown = set(re.findall(r"ray_lehr_\w+", json.dumps(dashboard)))
    assert shown == GAUGES


def test_run_that_ended_is_not_shown_any_more(prometheus: Prometheus) -> None:
    prometheus.wait(f'ray_lehr_step{{run="{RUN}"}}', series=2)
    _end(prometheus.run)
    until = time.monotonic() + WAIT_S
    while prometheus.ask(f'ray_lehr_step{{run="{RUN}"}}'):
        assert time.monotonic() < until, "the alert on silent runs would never end"
        time.sleep(1.0)


def test_rules_fire_when_they_should() -> None:
    for words in (["check", "rules", "rules.yml"], ["test", "rules", "rules_test.yml"]):
        done = subprocess.run(["promtool", *words], cwd=MONITORING, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_names_of_what_a_host_without_gpus_lacks() -> None:
    from ray.dashboard.modules.metrics.dashboards import default_dashboard_panels

    panels = Path(default_dashboard_panels.__file__).read_text()
    assert [name for name in OF_GPUS if name not in panels] == []
