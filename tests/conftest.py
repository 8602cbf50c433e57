"""What all tests share: where real data lies, what the markers mean, a clean environment.

Markers: `slow` more than about ten seconds, `system` starts other processes, `data` needs the data folder,
`s3` needs Ceph's packages, `hosts` needs root and network namespaces.
Quick tests run first, then slow ones, then system tests; where several processes share the tests, as in
`make test`, the longest files come first, so that none of them is left to one process at the end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import ceph
import network

# Tests that run side by side have networks of other numbers, so that none clears away or counts another's.
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    first = 1 + 50 * (int(worker.removeprefix("gw")) % 5)
    os.environ["LEHR_HOSTS"] = f"{first}-{first + 49}"

# What failed in a helper is said as it is of a test.
HELPERS = ("jobs", "learning", "machines", "ray_sweeps", "sites", "told_sweeps", "wandb_server")
pytest.register_assert_rewrite(*HELPERS)

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads it once, when it is imported

pytest_plugins = ["ci"]  # a skip is a failure there

ROOT = Path(__file__).resolve().parents[1]
# Files of tests/system that take minutes, the longest first. One that is missing here comes after them.
LONGEST = (
    "test_hosts_failures", "test_sweep_kills", "test_sweep_finds", "test_elastic", "test_kills",
    "test_exact_kinds",
    "test_wandb_online", "test_watchdog", "test_failures", "test_sweep_local", "test_sweep_workers",
    "test_sweep_hosts", "test_secrets", "test_exactness", "test_worker", "test_frozen",
    "test_storage_faults", "test_commit_kills", "test_chaos", "test_urls", "test_sweep_smoke",
    "test_evaluate", "test_submit", "test_resume", "test_launch_run", "test_hosts_training", "test_gauges",
    "test_launch_ray", "test_launch_local", "test_store_faults",
)  # fmt: skip

# Other jobs may share the machine, so time is no property of an example; CI runs the same examples each time.
settings.register_profile("lehr", deadline=None, derandomize=os.environ.get("CI") in ("1", "true"))
settings.load_profile("lehr")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with real data: LEHR_TEST_DATA, or shared/data beside the repository; skips without it.

    In CI the skip counts as a failure.
    """
    folder = Path(os.environ.get("LEHR_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "mnist").is_dir():
        pytest.skip(f"no data in {folder}: set LEHR_TEST_DATA to a folder with mnist/ and fashion-mnist/")
    return folder


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ceph.Server]:
    """A real S3 server; skips without Ceph's packages. In CI the skip counts as a failure."""
    if reason := ceph.lacking():
        pytest.skip(reason)
    with ceph.serve(tmp_path_factory.mktemp("ceph")) as server:
        yield server


@pytest.fixture(scope="session")
def hosts() -> None:
    """Leave to make hosts of one's own (cluster/hosts); skips where they cannot be made.

    In CI the skip counts as a failure.
    """
    if reason := network.lacking():
        pytest.skip(reason)


@pytest.fixture(scope="session", autouse=True)
def _own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads the user's settings or touches their cache; processes that tests start inherit this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LEHR_DATA", raising=False)
        patch.setenv("LEHR_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark and fixture of real data go together, as those of the S3 server and of hosts do; and all are put
    in order."""
    for item in items:
        names = getattr(item, "fixturenames", [])
        if "s3" in names:
            item.add_marker("s3")
        elif item.get_closest_marker("s3"):
            names.append("s3")
        if "hosts" in names:
            item.add_marker("hosts")
        elif item.get_closest_marker("hosts"):
            names.append("hosts")
        if "data_root" in names:
            item.add_marker("data")
        elif item.get_closest_marker("data"):
            names.append("data_root")
    items.sort(key=_longest_first if os.environ.get("PYTEST_XDIST_WORKER") else _weight)


def _weight(item: pytest.Item) -> int:
    return 2 * _is(item, "system") + _is(item, "slow")


def _longest_first(item: pytest.Item) -> tuple[int, int]:
    name = item.path.stem if item.path.parent.name == "system" else ""
    return LONGEST.index(name) if name in LONGEST else len(LONGEST), -_weight(item)


def _is(item: pytest.Item, marker: str) -> bool:
    return item.get_closest_marker(marker) is not None
