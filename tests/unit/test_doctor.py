"""What the doctor says of healthy and of broken machines."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from lehr import doctor
from lehr.cli import doctor as command
from lehr.errors import UserError, letter
from lehr.tracking import wandb as tracker

HOROVOD = {"version": "0.28.1", "gloo": True, "nccl": False, "mpi": False, "tensorflow": "2.21.0"}
TENSORFLOW = {"version": "2.21.0", "gpus": 0, "cuda": True}


def test_probe_reads_one_line_a_library() -> None:
    script = """if True:
        import sys
        print("chatter of a library")
        for name in sys.argv[1:]:
            print('found {"%s": {"version": "1"}}' % name)
    """
    assert doctor.probe("a", "b", script=script) == {"a": {"version": "1"}, "b": {"version": "1"}}


def test_probe_outlives_a_crash_and_keeps_what_came_before() -> None:
    script = """if True:
        import os
        print('found {"a": {"version": "1"}}', flush=True)
        os.kill(os.getpid(), 11)
    """
    found = doctor.probe("a", "b", script=script)
    assert found["a"] == {"version": "1"}
    assert found["b"] == {"error": "the import ended the process (exit code -11)"}


def test_probe_outlives_a_hang() -> None:
    found = doctor.probe("a", timeout_s=0.5, script="import time; time.sleep(60)")
    assert found["a"]["error"] == "the import took more than 0.5 s"


def test_probe_of_what_cannot_be_imported_names_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "horovod").mkdir()
    (tmp_path / "horovod" / "__init__.py").write_text("raise ImportError('undefined symbol: x')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert doctor.probe("horovod")["horovod"] == {"error": "ImportError: undefined symbol: x"}


@pytest.mark.slow
def test_probe_of_this_environment_finds_all() -> None:
    found = doctor.probe("tensorflow", "keras", "horovod")
    tensorflow, keras, horovod = (found[name] for name in ("tensorflow", "keras", "horovod"))
    assert doctor.tensorflow(tensorflow, gpus_present=0).state == "ok"
    assert doctor.keras(keras).state == "ok"
    said = doctor.horovod(horovod, tensorflow_version=tensorflow["version"], gpus=0)
    assert said.state == "ok", said
    assert "Gloo yes" in said.what


def test_broken_library_is_missing_and_says_what_to_do() -> None:
    broken = {"error": "ImportError: no"}
    for finding in (
        doctor.tensorflow(broken, gpus_present=0),
        doctor.keras(broken),
        doctor.horovod(broken, tensorflow_version=None, gpus=0),
        doctor.ray(broken),
    ):
        assert finding.state == "missing"
        assert finding.what == "ImportError: no"
        assert "make setup" in finding.do


def test_gpu_that_tensorflow_does_not_see() -> None:
    found = doctor.tensorflow(TENSORFLOW, gpus_present=2)
    assert (found.state, found.do) == ("optional", "make setup DEVICE=gpu")
    assert "the driver has 2 GPU" in found.what


@pytest.mark.parametrize(
    ("changes", "version", "gpus", "state", "said"),
    [
        ({}, "2.21.0", 0, "ok", "built against TensorFlow 2.21.0"),
        ({}, "2.22.0", 0, "missing", "not 2.22.0"),
        ({"gloo": False}, "2.21.0", 0, "missing", "Gloo no"),
        ({}, "2.21.0", 4, "optional", "NCCL no"),
        ({"nccl": True}, "2.21.0", 4, "ok", "NCCL yes"),
    ],
)
def test_horovods_build(changes: dict[str, bool], version: str, gpus: int, state: str, said: str) -> None:
    found = doctor.horovod(HOROVOD | changes, tensorflow_version=version, gpus=gpus)
    assert found.state == state
    assert said in found.what
    assert bool(found.do) == (state != "ok")


def test_keras_on_another_backend_or_too_old() -> None:
    assert "KERAS_BACKEND" in doctor.keras({"version": "3.15.1", "backend": "jax"}).do
    assert "TF_USE_LEGACY_KERAS" in doctor.keras({"version": "2.15.0", "backend": "tensorflow"}).do


def test_wandb_key_is_found_and_never_said(tmp_path: Path) -> None:
    secret = "0123456789abcdef0123456789abcdef01234567"
    (tmp_path / ".netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {secret}\n")
    inherited = doctor.wandb({}, tmp_path)
    assert inherited.state == "ok"
    assert str(tmp_path / ".netrc") in inherited.what
    named = doctor.wandb({"WANDB_API_KEY": secret}, tmp_path)
    assert "WANDB_API_KEY" in named.what
    assert secret not in f"{inherited} {named}"
    elsewhere = doctor.wandb({"WANDB_BASE_URL": "https://wandb.example.org"}, tmp_path)
    assert elsewhere.state == "optional"


@pytest.mark.parametrize("variable", [None, "WANDB_API_KEY", "WANDB_BASE_URL"])
@pytest.mark.parametrize("logged_in", [False, True])
def test_wandb_key_is_found_where_the_tracker_finds_it(
    variable: str | None, logged_in: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "https://wandb.example.org" if "URL" in variable else "a" * 40)
    monkeypatch.setenv("HOME", str(tmp_path))
    if logged_in:
        (tmp_path / ".netrc").write_text(f"machine api.wandb.ai login user password {'b' * 40}\n")
        (tmp_path / ".netrc").chmod(0o600)
    place = doctor.wandb_key_place(os.environ, tmp_path)
    assert (place is None) == (tracker.key(SimpleNamespace(api_key=None)) is None)


def test_wandb_without_a_key_is_offline_and_optional(tmp_path: Path) -> None:
    found = doctor.wandb({}, tmp_path)
    assert found.state == "optional"
    assert "offline" in found.what


def test_storage_that_works_is_left_as_it_was(tmp_path: Path) -> None:
    found = doctor.storage(str(tmp_path / "runs"))
    assert found.state == "ok", found
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kept").mkdir()
    assert doctor.storage(str(tmp_path / "kept")).state == "ok"
    assert list(tmp_path.rglob("*")) == [tmp_path / "kept"]


def test_storage_in_memory() -> None:
    assert doctor.storage("memory://doctor").state == "ok"


@pytest.mark.parametrize("url", ["nonsense://bucket/x", "{file}/runs"])
def test_storage_that_does_not_work(url: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()  # a folder cannot be made below a file, not even by root
    found = doctor.storage(url.format(file=tmp_path / "file"))
    assert found.state == "missing"
    assert "--storage" in found.do
    assert "\n" not in found.what


def test_storage_that_refuses_says_what_its_letter_says_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(url: str) -> None:
        raise UserError(letter(url, "cannot be written: there is no such bucket", do="create it, or wait"))

    monkeypatch.setattr(doctor, "probed", refused)
    found = doctor.storage("s3://nobodys/runs")
    assert found.what == "s3://nobodys/runs: cannot be written: there is no such bucket"
    assert found.do == "create it, or wait"


def test_storage_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "probed", lambda url: __import__("time").sleep(5))
    assert "no answer within 0.1 s" in doctor.storage("s3://far/away", timeout_s=0.1).what


def test_data_is_bundled_downloaded_or_in_a_folder(tmp_path: Path) -> None:
    assert str(tmp_path) in doctor.data({}, tmp_path).what
    empty = doctor.data({"LEHR_DATA": str(tmp_path)}, tmp_path)
    assert (empty.state, "is empty" in empty.what) == ("optional", True)
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").touch()
    assert doctor.data({"LEHR_DATA": str(tmp_path)}, tmp_path).state == "ok"
    assert doctor.data({"LEHR_DATA": "nonsense://x"}, tmp_path).state == "optional"


def test_disk(tmp_path: Path) -> None:
    assert doctor.disk(tmp_path / "not" / "yet").state == "ok"
    full = doctor.disk(tmp_path, wanted_gb=1e9)
    assert full.state == "missing"
    assert "GB free" in full.what


def test_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    found = doctor.cores()
    assert found.state == "optional"
    assert found.what.startswith("1 cores")


def test_python_is_this_one() -> None:
    assert sys.executable in doctor.python().what


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("optional", 0), ("missing", 1)])
def test_command_fails_only_for_what_make_run_needs(
    state: doctor.State, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import typer

    finding = doctor.Finding("Horovod", state, "what was found", "" if state == "ok" else "what to do")
    monkeypatch.setattr(doctor, "examine", lambda url: [finding])
    if code:
        with pytest.raises(typer.Exit) as left:
            command.doctor("runs")
        assert left.value.exit_code == code
    else:
        command.doctor("runs")
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith(state)
    assert ("-> what to do" in first) == (state != "ok")
    assert ("missing" in last) == (state == "missing")
