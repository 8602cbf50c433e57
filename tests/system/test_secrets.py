"""No credential that a run uses is anywhere in what it leaves: a canary in each place, and a search for them.

Searched, for each canary plain, in base64 and quoted as in a URL: every object of the bucket; the terminal;
all temporary files, W&B's and Ray's session folder among them, which are kept from being removed; lehr's
cache and the working folder; command lines of the processes; what Ray's own server knows of the job. Left
out: the environment of the processes, which is where a credential belongs.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from lehr import store as stores
from system.test_urls import job, put_idx

pytestmark = [pytest.mark.system, pytest.mark.slow]
LEHR = str(Path(sys.executable).with_name("lehr"))
PATIENCE_S = 300.0
OPTIONS = (
    "{key: 'env:CANARY_KEY', secret: 'file:secret.txt', endpoint_url: 'env:BUCKET_URL',"
    " config_kwargs: {user_agent_extra: 'env:CANARY_NESTED'}}"
)
DATA_OPTIONS = (
    "data.storage_options={key: 'file:key.txt', secret: 'env:CANARY_SECRET', endpoint_url: 'env:BUCKET_URL'}"
)
# Folders that Python would remove are moved away, to be searched.
KEEP = """
import os, shutil, uuid

def rmtree(path, ignore_errors=False, *rest, **named):
    try:
        os.rename(path, os.path.join(os.environ["KEPT"], uuid.uuid4().hex))
    except OSError:
        if not ignore_errors and os.path.exists(path):
            raise

shutil.rmtree = rmtree
"""
CRASH = """
def load(node, split, cache=None):
    from lehr.spec import secrets
    options = secrets.resolved(node.storage_options)
    raise RuntimeError(f"no such data below {node!r}")

def tell(node, split, cache=None):
    from lehr.spec import secrets
    raise RuntimeError(f"cannot connect with {secrets.resolved(node.storage_options)}")
"""
ASK_RAY = """
import sys
from ray._raylet import GcsClient
client = GcsClient(address=sys.argv[1])
for found in client.get_all_job_info().values():
    sys.stdout.buffer.write(found.SerializeToString())
    sys.stdout.buffer.write(str(found).encode())
for space in (None, b"session", b"fun", b"job", b"serve", b"dashboard", b"package", b"cluster"):
    for key in client.internal_kv_keys(b"", namespace=space):
        sys.stdout.buffer.write(key + b" " + (client.internal_kv_get(key, namespace=space) or b"") + b"\\n")
"""


@dataclass(frozen=True)
class Place:
    """Where a run happens.

    Args:
        folder: it stands there.
        temporary: its TMPDIR.
        bucket: its bucket.
        canaries: what must not be found, by the place that holds it.
        environment: of its processes.
    """

    folder: Path
    temporary: Path
    bucket: str
    canaries: Mapping[str, str]
    environment: Mapping[str, str]


@pytest.fixture
def place(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Canaries in every place that may hold a credential; the S3 server's own are some of them."""
    monkeypatch.chdir(tmp_path)
    canaries = {
        "key": s3.key, "secret": s3.secret, "nested": "canary5nested7Qm", "W&B's key": "c5" * 20,
        "Ray's token": "7f" * 32,
    }  # fmt: skip
    for name, text in (("secret.txt", s3.secret), ("key.txt", s3.key), ("wandb.txt", canaries["W&B's key"])):
        (tmp_path / "kept").mkdir(exist_ok=True)
        (tmp_path / "kept" / name).write_text(text)
        (tmp_path / name).symlink_to(tmp_path / "kept" / name)
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "sitecustomize.py").write_text(KEEP)
    (tmp_path / "crashing.py").write_text(CRASH)
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    temporary = Path(tempfile.mkdtemp(prefix="l-", dir="/tmp"))
    (temporary / "kept").mkdir()  # on the file system of all temporary files, so that a folder can move there
    told = {
        "CANARY_KEY": s3.key, "CANARY_SECRET": s3.secret, "CANARY_NESTED": canaries["nested"],
        "BUCKET_URL": s3.endpoint, "WANDB_API_KEY": canaries["W&B's key"], "HOME": str(tmp_path),
        "WANDB_BASE_URL": "http://127.0.0.1:9", "TMPDIR": str(temporary), "KEPT": str(temporary / "kept"),
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": canaries["Ray's token"],
        "LEHR_CACHE": str(tmp_path / "cache"), "PYTHONPATH": f"{tmp_path / 'python'}:{tmp_path}",
    }  # fmt: skip
    bucket = str(s3.bucket())
    put_idx(stores.connect(f"s3://{bucket}/data"))
    (tmp_path / "job.yaml").write_text(job(bucket, options=OPTIONS))
    yield Place(tmp_path, temporary, bucket, canaries, os.environ | told)
    shutil.rmtree(temporary, ignore_errors=True)


def forms(canary: str) -> dict[str, bytes]:
    """A canary as it may be found. In base64 its ends are mixed with what stands beside it: they are cut."""
    plain = canary.encode()
    aligned = {f"base64, {n} before": base64.b64encode(b"." * n + plain)[4:-4] for n in (0, 1, 2)}
    quoted = urllib.parse.quote(canary, safe="").encode()
    return {"plain": plain, "quoted": quoted, "hexadecimal": plain.hex().encode(), **aligned}


def leaks(place: Place, texts: Mapping[str, bytes]) -> list[str]:
    """What of `texts`, by name, holds a canary, and in which form."""
    return [
        f"{name}: {canary} ({form})"
        for name, text in texts.items()
        for canary, value in place.canaries.items()
        for form, found in forms(value).items()
        if found in text
    ]


def left(place: Place) -> dict[str, bytes]:
    """Everything that lies anywhere after a run, but for the files that the references name."""
    bucket = stores.connect(f"s3://{place.bucket}")
    texts = {f"bucket: {key}": bucket.read(key) for key in bucket.list()}
    for root in (place.folder, place.temporary):
        for file in root.rglob("*"):
            if file.is_file() and not file.is_symlink() and place.folder / "kept" not in file.parents:
                with contextlib.suppress(OSError):
                    texts[str(file)] = file.read_bytes()
    return texts


def watched(process: subprocess.Popen[bytes], place: Place, texts: dict[str, bytes]) -> None:
    """Until the process ends: note its children's command lines, and what Ray's server tells."""
    deadline, ask = time.monotonic() + PATIENCE_S, 0.0
    while process.poll() is None:
        assert time.monotonic() < deadline, "it does not end"
        with contextlib.suppress(psutil.Error):
            for each in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    texts[f"command line {each.pid}"] = "\n".join(each.cmdline()).encode()
        found = re.search(rb"^--gcs-address=(\S+)$", b"\n".join(texts.values()), re.MULTILINE)
        if found and time.monotonic() > ask:
            address = found[1].decode()
            command = [sys.executable, "-c", ASK_RAY, address]
            texts[f"Ray's jobs and keys, at {time.monotonic()}"] = asked(command, place)
            ask = time.monotonic() + 5.0
        time.sleep(0.5)


def asked(command: list[str], place: Place) -> bytes:
    """What a program says, as far as it comes: it may ask a server that ends at this moment."""
    try:
        done = subprocess.run(command, capture_output=True, env=dict(place.environment), timeout=20)
    except subprocess.TimeoutExpired as late:
        return (late.stdout or b"") + (late.stderr or b"")
    return done.stdout + done.stderr


def run(place: Place, *arguments: str) -> tuple[int, dict[str, bytes]]:
    """`lehr` with those arguments: its exit code, and all that was said, left and seen."""
    texts: dict[str, bytes] = {}
    with tempfile.TemporaryFile() as terminal:
        process = subprocess.Popen(
            [LEHR, *arguments], stdout=terminal, stderr=subprocess.STDOUT, env=dict(place.environment)
        )
        try:
            watched(process, place, texts)
        finally:
            process.kill()
            process.wait()
        terminal.seek(0)
        texts["terminal"] = terminal.read()
    return process.returncode, texts | left(place)


RAY = ("--set", "strategy={kind: horovod, workers: 2}", "--set", DATA_OPTIONS)
WANDB = "tracking.wandb={{project: canaries, mode: {mode}, api_key: '{key}'}}"


@pytest.mark.parametrize(
    ("mode", "key"), [("offline", "env:WANDB_API_KEY"), ("online", "file:wandb.txt")], ids=["offline", "away"]
)
def test_run_leaves_no_credential(mode: str, key: str, place: Place) -> None:
    """Two Horovod workers under Ray; W&B offline, and W&B that does not answer."""
    code, texts = run(place, "run", "job.yaml", *RAY, "--set", WANDB.format(mode=mode, key=key))
    said = texts["terminal"].decode()
    assert code == 0, said
    assert "completed at step 10 of 10" in said
    for part in ("manifest.json", "journal/", "plan.json", "spec.yaml", "status.json", "logs/rank-0001"):
        assert any(part in name for name in texts), f"{part} was searched"
    assert any("session_" in name for name in texts), "Ray's folder was searched"
    told = [text for name, text in texts.items() if name.startswith("Ray's jobs")]
    assert any(b"driver_pid" in text for text in told), told
    assert mode != "offline" or any(name.endswith(".wandb") for name in texts), "W&B's file was searched"
    assert leaks(place, texts) == []


CUSTOM = (
    "data={{kind: 'crashing:{name}', shape: [16, 16, 1], range: [-1, 1], train_examples: 300,"
    " validation_examples: 50, storage_options: {{key: 'env:CANARY_KEY', secret: 'file:secret.txt'}}}}"
)
FAILURES = {
    "wrong credentials": (2, "storage_options.secret=env:HOME"),
    "crash in a worker": (1, CUSTOM.format(name="load")),
    "data out of reach": (1, "data.storage_options.endpoint_url=http://127.0.0.1:9"),
    "typed in": (2, "storage_options.secret={secret}"),
    "typed in elsewhere": (2, "storage_options.client_kwargs={{aws_session_token: '{secret}'}}"),
    "typed in a URL": (2, "storage=s3://{key}:{secret}@bucket/runs"),
    "misspelt": (2, "storage_optoins={{secret: '{secret}'}}"),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=list(FAILURES))
def test_failure_tells_no_credential(failure: tuple[int, str], place: Place, s3: Any) -> None:
    expected, change = failure
    text = change.format(key=s3.key, secret=s3.secret) if "{secret}" in change else change.replace("{{", "{")
    code, texts = run(place, "run", "job.yaml", "--local", "--set", "recovery.max_failures=0", "--set", text)
    assert code == expected, texts["terminal"].decode()
    # Its own command line holds what the user typed there; that of its workers must not.
    assert leaks(place, texts) == []


@pytest.mark.parametrize("form", ["plain", "quoted", "hexadecimal", "base64"])
def test_planted_leak_is_found(form: str, place: Place) -> None:
    """In each form, wherever in a text and in whichever of the places that are searched."""
    plain = b"some text " + place.canaries["secret"].encode() + b" and more"
    planted = {
        "plain": plain,
        "quoted": urllib.parse.quote(plain).encode(),
        "hexadecimal": plain.hex().encode(),
        "base64": base64.b64encode(plain),
    }[form]
    stores.connect(f"s3://{place.bucket}").write("runs/ebm/journal/attempt-0001.jsonl", planted)
    (place.temporary / "session_1").mkdir()
    (place.temporary / "session_1" / "raylet.out").write_bytes(b"x" + planted)
    found = leaks(place, left(place))
    assert any("bucket: runs/ebm/journal" in one for one in found)
    assert any("raylet.out" in one for one in found)


def test_leak_of_a_user_s_own_code_is_found(place: Place) -> None:
    """Against a search that looks where nothing is: code that tells its secrets fails it."""
    change = CUSTOM.format(name="tell")
    _, texts = run(place, "run", "job.yaml", "--local", "--set", "recovery.max_failures=0", "--set", change)
    found = leaks(place, texts)
    for where in (
        "terminal",
        "bucket: runs/ebm/journal/",
        "bucket: runs/ebm/status.json",
        str(place.temporary),
    ):
        assert any(one.startswith(where) and one.endswith(": secret (plain)") for one in found), found
