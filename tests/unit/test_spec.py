"""Reading job files: what is accepted, what it becomes, and what makes two jobs the same training."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr import spec as specs
from lehr.errors import SpecError, UserError
from lehr.spec import kinds, needs, schema, secrets
from lehr.spec import tree as trees
from lehr.spec.node import READABLE

JOB = (Path(__file__).resolve().parents[2] / "jobs" / "ebm-digits.yaml").read_text()
LEAST = """\
version: 1
name: least
model: {kind: lenet}
data: {kind: fashion_mnist}
train: {global_batch: 128, duration: {epochs: 1}, optimizer: {kind: sgd, learning_rate: 0.1}}
"""


def changed(path: str, value: Any, text: str = JOB) -> specs.Spec:
    return specs.parse(text, sets=[f"{path}={trees.write(value)}"])


def test_the_least_job_gets_the_defaults_of_the_reference() -> None:
    spec = specs.parse(LEAST)
    assert spec.objective.kind == "classification"
    assert (spec.strategy.kind, spec.strategy.workers, spec.strategy.gpus) == ("single", 1, "auto")
    assert spec.document()["checkpoint"] == {"every": {"epochs": 1}, "keep_last": 2, "keep_best": None}
    assert spec.document()["recovery"] == {
        "max_failures": 3,
        "max_preemptions": 100,
        "exclude_after": None,
        "hang_minutes": 10.0,
        "on_divergence": "stop",
        "max_unsaved_minutes": 30.0,
        "on_storage_outage": "pause",
        "spool_gib": 4.0,
    }
    assert spec.document()["tracking"] == {"every": {"steps": 10}, "wandb": None}
    assert (spec.sampler, spec.samples, spec.init_from, spec.storage) == (None, None, None, "runs")


def test_the_book_is_the_default_of_the_energy_model() -> None:
    text = LEAST.replace("lenet", "ebm").replace("fashion_mnist", "mnist") + "sampler: {kind: langevin}\n"
    spec = specs.parse(text)
    assert spec.model.filters == (16, 32, 64, 64)
    assert spec.document()["objective"] == {"kind": "contrastive", "regulariser": 0.1, "data_noise": 0.005}
    assert spec.document()["sampler"] == {
        "kind": "langevin", "steps": 60, "step_size": 10.0, "noise": 0.005, "noise_end": None,
        "acceptance": False, "gradient_clip": 0.03, "buffer": {"size": 8192, "fresh": 0.05},
    }  # fmt: skip


def test_yaml_is_1_2() -> None:
    text = "{a: on, b: yes, c: 1e-4, d: 2026-01-01, e: 0o17, f: 0x1F, g: 010, h: 1:30, i: true, j: ~, k: .5}"
    assert trees.read(text, "x").value == {
        "a": "on", "b": "yes", "c": 1e-4, "d": "2026-01-01", "e": 15, "f": 31, "g": 10, "h": "1:30",
        "i": True, "j": None, "k": 0.5,
    }  # fmt: skip


def test_aliases_are_values_and_lines_are_remembered() -> None:
    tree = trees.read("a: &x {b: 1}\nc:\n  - *x\n  - 2\n", "f.yaml")
    assert tree.value == {"a": {"b": 1}, "c": [{"b": 1}, 2]}
    assert [tree.origin(path) for path in ((), ("a",), ("c", 1), ("c", "absent"))] == [
        "f.yaml:1", "f.yaml:1", "f.yaml:4", "f.yaml:2",
    ]  # fmt: skip


def test_a_byte_order_mark_and_windows_lines_do_not_matter(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + LEAST.replace("\n", "\r\n").encode())
    assert specs.load(str(file)) == specs.parse(LEAST)


def test_a_job_file_can_be_a_url() -> None:
    from lehr import store

    store.connect("memory://jobs-of-a-test").write("least.yaml", LEAST.encode())
    assert specs.load("memory://jobs-of-a-test/least.yaml") == specs.parse(LEAST)
    with pytest.raises(SpecError, match=r"memory://jobs-of-a-test/absent\.yaml: no such file"):
        specs.load("memory://jobs-of-a-test/absent.yaml")


def test_a_spec_is_frozen() -> None:
    spec = specs.parse(LEAST)
    with pytest.raises(pydantic.ValidationError):
        spec.train.seed = 3
    with pytest.raises(pydantic.ValidationError):
        spec.name = "other"


@pytest.mark.parametrize("text", [JOB, LEAST])
def test_it_goes_through_text_json_and_pickle_unchanged(text: str) -> None:
    spec = specs.parse(text)
    assert specs.parse(specs.text(spec)) == spec
    assert specs.restore(json.loads(json.dumps(spec.document()))) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert specs.parse(text) != changed("train.seed", 9, text)


def test_the_schema_accepts_what_the_spec_accepts_and_no_typo() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft202012Validator(schema.document())
    assert not list(check.iter_errors(trees.read(JOB, "x").value))
    assert not list(check.iter_errors(specs.parse(JOB).document()))
    for path, value in (("train.sed", 1), ("model.kind", "ebmm"), ("strategy.workers", 0), ("storage", 3)):
        tree = trees.read(JOB, "x")
        specs.reading.overrides.apply(tree, [f"{path}={value}"])
        assert list(check.iter_errors(tree.value)), path


def test_every_scheme_of_fsspec_is_known() -> None:
    """But those that are no place: caches and wrappers, archives in others, things of one program."""
    from fsspec.registry import known_implementations

    no_place = {
        "async_wrapper", "asyncwrapper", "asynclocal", "blockcache", "cached", "dask", "data", "dir", "dvc",
        "filecache", "generic", "gist", "jlab", "jupyter", "libarchive", "pyscript", "reference", "root",
        "simplecache", "wandb",
    }  # fmt: skip
    assert set(known_implementations) - no_place - set(READABLE) == set()


# Kinds


def test_a_model_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_models.py").write_text("class Net:\n    depth = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    spec = specs.parse(
        LEAST,
        sets=["model={kind: 'my_models:Net', depth: 7, sizes: [1, 2]}", "objective={kind: classification}"],
    )
    assert kinds.load(spec.model).depth == 3
    assert spec.model.depth == 7
    assert specs.restore(spec.document()) == spec
    assert spec.document()["model"] == {"kind": "my_models:Net", "depth": 7, "sizes": [1, 2]}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            "absent_package.models:Net",
            ["model.kind: absent_package.models:Net", "No module named 'absent_package'", "PYTHONPATH"],
        ),
        ("broken_models:Net", ["cannot import broken_models: ZeroDivisionError"]),
        ("json:Net", ["json has no Net", "accepted: ", "correct the name"]),
    ],
)
def test_a_model_that_cannot_be_loaded(
    kind: str, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_models.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    spec = specs.parse(LEAST, sets=[f"model={{kind: '{kind}'}}", "objective={kind: classification}"])
    with pytest.raises(UserError) as refused:
        kinds.load(spec.model)
    assert all(words in str(refused.value) for words in said), str(refused.value)


def test_reading_a_job_imports_no_kind() -> None:
    before = set(sys.modules)
    specs.parse(LEAST, sets=["model={kind: 'antigravity:Net'}", "objective={kind: classification}"])
    assert "antigravity" not in set(sys.modules) - before


# Identity


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", "other"), ("strategy", {"kind": "single"}), ("checkpoint.keep_last", 9), ("samples", None),
        ("validation.every", {"steps": 3}), ("recovery.max_failures", 0), ("tracking", {}), ("storage", "s3://b/p"),
        ("data.storage_options", {"anon": True}),
        ("storage_options", {"anon": True}), ("train.duration", {"steps": 3}), ("train.compile", "off"),
        ("data.root", "s3://b/data"),
    ],
)  # fmt: skip
def test_operational_keys_do_not_change_the_hash(path: str, value: Any) -> None:
    old, new = specs.parse(JOB), changed(path, value)
    assert old != new
    assert specs.spec_hash(old) == specs.spec_hash(new)
    assert specs.difference(old.document(), new.document()) == []


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("train.seed", 1, "train.seed: 0 -> 1"),
        ("train.global_batch", 64, "train.global_batch: 128 -> 64"),
        ("train.precision", "mixed_float16", 'train.precision: "float32" -> "mixed_float16"'),
        ("train.gradient_clip", 1.0, "train.gradient_clip: null -> 1.0"),
        ("train.optimizer.learning_rate", 0.5, "train.optimizer.learning_rate: 0.0003 -> 0.5"),
        ("model.filters", [8], "model.filters: [16, 32, 64, 64] -> [8]"),
        ("data.image_size", 16, "data.image_size: 32 -> 16"),
        ("sampler.buffer.fresh", 0.5, "sampler.buffer.fresh: 0.05 -> 0.5"),
        ("objective.regulariser", 0.2, "objective.regulariser: 0.1 -> 0.2"),
        ("init_from", {"run": "runs/a"}, 'init_from.run: absent -> "runs/a"'),
    ],
)
def test_keys_that_change_the_result_change_the_hash_and_are_told(path: str, value: Any, line: str) -> None:
    old, new = specs.parse(JOB), changed(path, value)
    assert specs.spec_hash(old) != specs.spec_hash(new)
    assert line in specs.difference(old.document(), new.document())


def test_the_hash_is_of_the_meaning_not_of_the_writing() -> None:
    other = (
        JOB.replace("1.0e-4", "0.0001").replace("step_size: 10.0", "step_size: 10").replace("  seed: 0\n", "")
    )
    assert other != JOB
    assert specs.spec_hash(specs.parse(other)) == specs.spec_hash(specs.parse(JOB))


def test_the_hash_of_a_job_stays() -> None:
    """Checkpoints carry it: when this number changes, runs that exist cannot be resumed."""
    assert specs.spec_hash(specs.parse(LEAST))[:16] == "77fc2fd6b4e5e77a"


# Secrets


STORE = {"endpoint_url": "http://127.0.0.1:1", "client_kwargs": {"secret": "env:DEEP"}}


@pytest.mark.parametrize(
    ("storage", "root", "same"),
    [
        ("s3://runs", "s3://data", True),
        ("s3://runs", "s3a://data", True),
        ("gs://runs", "gcs://data", True),
        ("s3://runs", "gs://data", False),
        ("s3://runs", "data", False),
        ("runs", "file:///data", True),
        ("s3://runs", None, False),
    ],
)
def test_places_of_one_scheme_share_their_options(storage: str, root: str | None, same: bool) -> None:
    job = trees.read(LEAST, "job").value | {"storage": storage, "storage_options": STORE}
    job["data"] = {**job["data"], "root": root}
    job["init_from"] = {"run": f"{root or 'gs://data'}/run"}
    made = specs.restore(job)
    assert made.data.storage_options == (STORE if same else {})
    assert made.init_from is not None
    assert made.init_from.storage_options == (STORE if same else {})
    assert specs.restore(made.document()) == made
    bare = specs.restore(job | {"storage": "runs", "storage_options": {}})
    assert specs.spec_hash(bare) == specs.spec_hash(made), "how a store is reached changes no result"


def test_own_options_of_a_place_stay() -> None:
    job = trees.read(LEAST, "job").value | {"storage": "s3://runs", "storage_options": STORE}
    job["data"] = {**job["data"], "root": "s3://data", "storage_options": {"anon": True}}
    job["init_from"] = {"run": "s3://data/run", "storage_options": {}}
    made = specs.restore(job)
    assert made.data.storage_options == {"anon": True}
    assert made.init_from is not None
    assert made.init_from.storage_options == {}


def test_what_a_machine_lacks_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(needs.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("THERE", "a")
    (tmp_path / "empty").touch()
    made = specs.parse(
        LEAST,
        sets=[
            "storage=gs://runs",
            "data.root=az://data",
            "init_from={run: 's3://old/run', storage_options: {secret: 'env:ABSENT'}}",
            "storage_options={token: 'env:NOT_THERE', nested: {key: 'env:THERE'}}",
            f"data.storage_options={{account_key: 'file:{tmp_path}/empty'}}",
            "tracking.wandb={project: p, api_key: 'env:AWAY'}",
        ],
    )
    assert [(one.path, one.do) for one in needs.packages(made)] == [
        (("storage",), "pip install 'lehr[gcs]'"),
        (("data", "root"), "pip install 'lehr[azure]'"),
        (("init_from", "run"), "pip install s3fs"),
    ]
    told = {
        one.letter().splitlines()[0].partition(": ")[2]
        for one in needs.references(made, workers_are_here=True)
    }
    assert told == {
        "storage_options.token: env:NOT_THERE: the environment variable is not set in this process",
        f"data.storage_options.account_key: file:{tmp_path}/empty: the file is empty",
        "init_from.storage_options.secret: env:ABSENT: the environment variable is not set in this process",
        "tracking.wandb.api_key: env:AWAY: the environment variable is not set in this process",
    }
    elsewhere = [one.path for one in needs.references(made, workers_are_here=False)]
    assert elsewhere == [("storage_options", "token")]


def test_references_are_kept_and_resolved_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("sesame\n")
    options = {
        "key": "env:LEHR_TEST_KEY",
        "secret": f"file:{tmp_path}/key",
        "client_kwargs": {"endpoint_url": "http://h:9000"},
    }
    spec = changed("storage_options", options)
    assert spec.document()["storage_options"] == options
    monkeypatch.setenv("LEHR_TEST_KEY", "open")
    assert secrets.resolved(spec.storage_options) == options | {"key": "open", "secret": "sesame"}


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("env:LEHR_TEST_ABSENT", "set LEHR_TEST_ABSENT where the workers run"),
        ("file:absent/key", "the file cannot be read: FileNotFoundError"),
        ("hunter2", "not a reference"),
    ],
)
def test_references_to_nothing(reference: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        secrets.resolve(reference)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "value",
    [
        "s3://bucket/prefix", "http://localhost:9000/bucket", "abfs://box@account.dfs.core.windows.net/x",
        "env:KEY", "file:/x/key",
        "a sentence about a token and a key", "da39a3ee", "runs/2026-11-20", "sftp://user@host/path", "memory://a",
    ],
)  # fmt: skip
def test_what_is_no_secret(value: str) -> None:
    assert secrets.looks_like(value) is None
    assert secrets.show(value).strip("'") == value


NAMES = ["key", "api_key", "aws-secret", "accessToken", "PASSWORD", "hub_token", "secretKey", "apikey"]


@given(key=st.sampled_from(NAMES),
       value=st.text(min_size=8))  # fmt: skip
def test_a_secret_named_so_is_refused_whatever_it_is(key: str, value: str) -> None:
    reference = secrets.is_reference(value)
    assert bool(list(secrets.problems({"options": {key: value}}))) != reference


@given(value=st.from_regex(r"\A(AKIA[A-Z0-9]{16}|[0-9a-f]{40}|hf_[A-Za-z0-9]{20,30})\Z"))
def test_no_message_holds_a_secret(value: str) -> None:
    for path in ("name", "train.seed", "model.kind", "storage", "tracking.wandb", "storage_options.endpoint"):
        with pytest.raises(SpecError) as refused:
            specs.parse(JOB, sets=[f"{path}={json.dumps(value)}"])
        assert value not in str(refused.value)
