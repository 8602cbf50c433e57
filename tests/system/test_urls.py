"""A job whose every part lies in a bucket: its file, its data, the run it starts from, and its own run."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jobs
from lehr import checkpoint, journal
from lehr import store as stores
from lehr.store import Store

pytestmark = [pytest.mark.system, pytest.mark.slow]
LEHR = str(Path(sys.executable).with_name("lehr"))
PATIENCE_S = 240.0
OPTIONS = "{key: 'env:BUCKET_KEY', secret: 'file:secret.txt', endpoint_url: 'env:BUCKET_URL'}"
DATA = "{kind: mnist, image_size: 16, range: [-1, 1], train_examples: 300, validation_examples: 50"
EXAMPLES = {"train": 300, "t10k": 50}
Lehr = Callable[..., subprocess.CompletedProcess[str]]


def put_idx(store: Store, *, seed: int = 0) -> None:
    """A small set of pictures, in MNIST's files."""
    random = np.random.default_rng(seed)
    for split, count in EXAMPLES.items():
        images = random.integers(0, 256, (count, 28, 28), np.uint8)
        labels = random.integers(0, 10, count, np.uint8)
        for name, values in (("images-idx3", images), ("labels-idx1", labels)):
            lengths = b"".join(length.to_bytes(4, "big") for length in values.shape)
            head = bytes([0, 0, 8, values.ndim]) + lengths
            store.write(f"mnist/{split}-{name}-ubyte.gz", gzip.compress(head + values.tobytes()))


def job(bucket: str, *, options: str = OPTIONS) -> str:
    """An energy-based model on pictures in a bucket. `data` names no options: the job's own apply."""
    lines = [line for line in jobs.EBM.splitlines() if not line.startswith("data:")]
    lines += [
        f"data: {DATA}, root: 's3://{bucket}/data'}}",
        f"storage: s3://{bucket}/runs",
        f"storage_options: {options}",
    ]
    return "\n".join(lines)


@pytest.fixture
def bucket(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket with data, and a folder with what the references name. This process has credentials, too."""
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("BUCKET_KEY", s3.key)
    monkeypatch.setenv("BUCKET_URL", s3.endpoint)
    monkeypatch.setenv("WRONG_KEY", "ANOTHER")
    (tmp_path / "secret.txt").write_text(f"{s3.secret}\n")
    monkeypatch.chdir(tmp_path)
    name = str(s3.bucket())
    put_idx(stores.connect(f"s3://{name}/data"))
    return name


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """The environment without what a cloud's own clients look for."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def lehr(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LEHR, *arguments], env=environment, capture_output=True, text=True, timeout=PATIENCE_S
    )


def done(*arguments: str, environment: dict[str, str] | None = None) -> str:
    said = lehr(*arguments, environment=environment)
    assert said.returncode == 0, f"{arguments}\n{said.stdout}\n{said.stderr}"
    return said.stdout + said.stderr


def test_all_of_a_run_lies_in_a_bucket(bucket: str, bare: dict[str, str]) -> None:
    file, runs = f"s3://{bucket}/jobs/ebm.yaml", f"s3://{bucket}/runs"
    stores.connect(f"s3://{bucket}/jobs").write("ebm.yaml", job(bucket).encode())
    assert "ebm: single, 1 replica, 10 steps" in done("check", file)
    assert "completed at step 10 of 10" in done("run", file, "--local")
    later = f"init_from={{run: '{runs}/ebm', step: 5}}"
    Path("later.yaml").write_text(job(bucket))
    # By its references alone: nothing is in this process's environment where the cloud's client looks.
    told = done("run", "later.yaml", "--local", "--run", "later", "--set", later, environment=bare)
    assert "completed at step 10 of 10" in told

    assert [line.split()[:2] for line in done("runs", "--storage", runs).splitlines()[1:]] == [
        ["ebm", "completed"], ["later", "completed"],
    ]  # fmt: skip
    assert f"{runs}/ebm" in done("show", f"{runs}/later")
    verified = done("checkpoints", "later", "--storage", runs, "--verify")
    assert "step-00000010" in verified
    assert "bad" not in verified
    drawn = done("sample", f"{runs}/later", "--count", "4", "--steps", "2")
    assert f"{runs}/later/samples/" in drawn
    assert f"{runs}/later/figures/curves.png" in done("curves", "later", "--storage", runs)

    run = stores.connect(f"{runs}/later")
    events = {entry["event"]: entry for entry in journal.read(run) if entry["type"] == "event"}
    assert events["initialised_from"]["run"] == f"{runs}/ebm"
    assert events["initialised_from"]["checkpoint"].startswith("step-00000005")
    assert [item.manifest.step for item in checkpoint.listing(run) if item.manifest] == [10, 5]
    assert run.read("samples/" + run.list("samples")[0].removeprefix("samples/"))


REFUSED = {
    "no such key": ("check s3://{bucket}/jobs/absent.yaml", "absent.yaml: no such file"),
    "no such bucket": ("check s3://not-{bucket}/ebm.yaml", "there is no such bucket"),
    "a folder": ("check s3://{bucket}/jobs/", "accepted: the URL of a YAML file"),
    "storage, no bucket": (
        "run job.yaml --local --storage s3://not-{bucket}/runs", "there is no such bucket"
    ),
    "storage, wrong key": (
        "run job.yaml --local --set storage_options.key=env:WRONG_KEY", "credentials are wrong"
    ),
    "secret not set": (
        "run job.yaml --local --set storage_options.key=env:NOT_SET_ANYWHERE",
        "storage_options.key: env:NOT_SET_ANYWHERE: the environment variable is not set",
    ),
    "secret of the data not set": (
        "run job.yaml --local --set data.storage_options.secret=file:absent.txt",
        "data.storage_options.secret: file:absent.txt: the file cannot be read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED.values(), ids=list(REFUSED))
def test_what_cannot_be_reached_is_told_before_anything_starts(case: tuple[str, str], bucket: str) -> None:
    command, sentence = case
    Path("job.yaml").write_text(job(bucket))
    said = lehr(*command.format(bucket=bucket).split())
    assert said.returncode == 2, said.stdout + said.stderr
    assert sentence in said.stderr
    assert "Traceback" not in said.stderr
    assert stores.connect(f"s3://{bucket}/runs").list() == [], "nothing was started"


def test_without_credentials_a_job_file_says_where_they_are_looked_for(
    bucket: str, bare: dict[str, str], s3: Any
) -> None:
    said = lehr("check", f"s3://{bucket}/job.yaml", environment=bare | {"AWS_ENDPOINT_URL": s3.endpoint})
    assert said.returncode == 2, said.stderr
    assert "credentials are wrong, expired or missing" in said.stderr
    assert "AWS_ACCESS_KEY_ID" in said.stderr
