"""Malformed job files: each gives one clear message that says where and what to do, exit code 2, nothing written."""

# ruff: noqa: E501  a case is a line, so that the table can be read down

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commands import lehr
from lehr import plan as plans
from lehr import spec as specs
from lehr.errors import SpecError

GOOD = """\
version: 1
name: fine
model: {kind: ebm, filters: [16, 32], hidden: 64}
data: {kind: digits, image_size: 16, range: [-1, 1]}
train:
  global_batch: 128
  duration: {epochs: 20}
  seed: 0
  optimizer: {kind: adam, learning_rate: 1.0e-4}
sampler:
  kind: langevin
  steps: 60
  buffer: {size: 8192, fresh: 0.05}
strategy: {kind: horovod, workers: 2}
checkpoint: {every: {epochs: 1}, keep_last: 2}
samples: {every: {epochs: 1}}
tracking: {wandb: {project: lehr}}
storage: runs
storage_options: {}
"""
WANDB_KEY = "0123456789abcdef0123456789abcdef01234567"
AWS_ID = "AKIA" + "IOSFODNN7EXAMPLE"
AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "EXAMPLEKEY"


@dataclass(frozen=True)
class Case:
    """A good job with `old` replaced by `new` (or only `new`, when `old` is None), and what must be said of it."""

    name: str
    old: str | None
    new: str | bytes
    said: tuple[str, ...]
    sets: tuple[str, ...] = ()
    secret: str = ""  # must not be said


def edit(name: str, old: str, new: str, *said: str, secret: str = "") -> Case:
    assert old in GOOD, old
    return Case(name, old, new, said, secret=secret)


def override(name: str, text: str, *said: str, secret: str = "") -> Case:
    return Case(name, "", "", said, sets=(text,), secret=secret)


def whole(name: str, text: str | bytes, *said: str) -> Case:
    return Case(name, None, text, said)


TYPES = [
    edit("text for a number", "batch: 128", "batch: many", "job.yaml:6: train.global_batch: 'many' is text", "a whole number, at least 1"),
    edit("quoted number", "batch: 128", "batch: '128'", "job.yaml:6: train.global_batch", "remove the quotes"),
    edit("fraction for a count", "batch: 128", "batch: 128.5", "128.5 is a number", "a whole number"),
    edit("float for a count", "batch: 128", "batch: 128.0", "train.global_batch", "write 128"),
    edit("truth for a count", "batch: 128", "batch: true", "true is a truth value", "a whole number"),
    edit("list for a number", "batch: 128", "batch: [128]", "train.global_batch: [128] is not accepted"),
    edit("nothing for a number", "batch: 128", "batch:", "train.global_batch: nothing (null) came"),
    edit("text for a rate", "1.0e-4", "small", "job.yaml:9: train.optimizer.learning_rate: 'small' is text"),
    edit("number for a name", "name: fine", "name: 7", "job.yaml:2: name: 7 is a whole number"),
    edit("list for a name", "name: fine", "name: [a]", "job.yaml:2: name: a list of 1 came"),
    edit("number for filters", "[16, 32]", "16", "job.yaml:3: model.filters: 16 is a whole number", "a list, each"),
    edit("text among filters", "[16, 32]", "[16, wide]", "model.filters.1: 'wide' is text"),
    edit("text for a section", "model: {kind: ebm, filters: [16, 32], hidden: 64}", "model: ebm",
         "job.yaml:3: model: 'ebm' is text", "write model: {kind: ebm}"),
    edit("list for a section", "strategy: {kind: horovod, workers: 2}", "strategy: [horovod]", "job.yaml:14: strategy"),
    edit("yes for a truth", "optimizer: {kind: adam, learning_rate: 1.0e-4}",
         "optimizer: {kind: sgd, learning_rate: 0.1, nesterov: yes}", "train.optimizer.nesterov: 'yes' is text", "write true"),
    edit("truth for a choice", "seed: 0", "seed: 0\n  compile: true", "job.yaml:9: train.compile", "auto | on | off", "write on"),
    edit("number for gpus", "workers: 2}", "workers: 2, gpus: 4}", "strategy.gpus: 4", "true | false | auto"),
    edit("text for workers", "workers: 2}", "workers: all}", "strategy.workers: 'all' is text"),
]  # fmt: skip
VALUES = [
    edit("zero batch", "batch: 128", "batch: 0", "train.global_batch: 0 is not accepted", "at least 1"),
    edit("negative batch", "batch: 128", "batch: -128", "train.global_batch: -128 is not accepted", "at least 1"),
    edit("negative size", "image_size: 16", "image_size: -16", "job.yaml:4: data.image_size: -16", "at least 1"),
    edit("negative buffer", "size: 8192", "size: -1", "job.yaml:13: sampler.buffer.size: -1"),
    edit("negative seed", "seed: 0", "seed: -1", "job.yaml:8: train.seed: -1", "at least 0"),
    edit("huge seed", "seed: 0", "seed: 9223372036854775808", "train.seed", "below 9223372036854775808"),
    edit("zero rate", "1.0e-4", "0", "train.optimizer.learning_rate: 0 is not accepted", "above 0"),
    edit("infinite rate", "1.0e-4", ".inf", "train.optimizer.learning_rate", "a number, above 0"),
    edit("rate that is no number", "1.0e-4", ".nan", "train.optimizer.learning_rate"),
    edit("endless option", "options: {}", "options: {retries: [1, .inf]}", "storage_options.retries.1: inf is not accepted", "finite"),
    edit("share above one", "fresh: 0.05", "fresh: 1.5", "sampler.buffer.fresh: 1.5", "at most 1"),
    edit("no filters", "[16, 32]", "[]", "model.filters: [] is not accepted"),
    edit("zero filters", "[16, 32]", "[16, 0]", "model.filters.1: 0", "at least 1"),
    edit("falling range", "range: [-1, 1]", "range: [1, -1]", "data.range: the lower end is not below"),
    edit("range of three", "range: [-1, 1]", "range: [0, 1, 2]", "data.range: [0, 1, 2] is not accepted", "a list of 2"),
    edit("name with a slash", "name: fine", "name: ../up", "job.yaml:2: name: '../up'", "letters, digits"),
    edit("empty name", "name: fine", "name: ''", "name: ''", "1 to 100 letters"),
    edit("precision that is not ours", "seed: 0", "precision: float16", "train.precision: 'float16'", "mixed_float16?"),
    edit("falling workers", "workers: 2}", "workers: [4, 1]}", "strategy.workers: [4, 1] is not accepted"),
    edit("metric without a split", "keep_last: 2", "keep_best: {metric: loss, mode: min}", "checkpoint.keep_best.metric", "validation/NAME"),
    edit("unknown step", "storage: runs", "storage: runs\ninit_from: {run: runs/a, step: best}", "init_from.step: 'best'", "latest"),
]  # fmt: skip
KEYS = [
    edit("typo at the top", "storage: runs", "storag: runs", "job.yaml:18: storag: unknown key", "did you mean storage?"),
    edit("typo in a section", "  steps: 60", "  stepz: 60", "job.yaml:12: sampler.stepz: unknown key", "did you mean steps?"),
    edit("typo in a kind", "hidden", "hiden", "job.yaml:3: model.hiden: unknown key", "did you mean hidden?"),
    edit("key in the wrong place", "  seed: 0", "  learning_rate: 0.1", "job.yaml:8: train.learning_rate: unknown key",
         "learning_rate belongs under train.optimizer"),
    edit("key of another kind", "hidden: 64", "pooling: max", "model.pooling: unknown key", "belongs under model of kind lenet"),
    edit("key of another optimizer", "kind: adam", "kind: adam, momentum: 0.9", "train.optimizer.momentum", "of kind sgd"),
    edit("key that nobody knows", "storage: runs", "zzz: 1", "job.yaml:18: zzz: unknown key", "accepted: version, name"),
    edit("capital letters", "train:", "Train:", "Train: unknown key", "did you mean train?", "train: missing"),
    edit("missing batch", "  global_batch: 128\n", "", "job.yaml:5: train.global_batch: missing", "add global_batch"),
    edit("missing version", "version: 1\n", "", "version: missing", "add version"),
    edit("missing rate", ", learning_rate: 1.0e-4", "", "job.yaml:9: train.optimizer.learning_rate: missing"),
    edit("unknown version", "version: 1", "version: 2", "job.yaml:1: version: 2 is not a version", "newer lehr"),
    edit("version as text", "version: 1", "version: '1'", "job.yaml:1: version: '1' is not a version", "accepted: 1"),
    edit("version as truth", "version: 1", "version: true", "job.yaml:1: version: true is not a version"),
    edit("unknown model", "kind: ebm", "kind: ebmm", "job.yaml:3: model: kind: 'ebmm' is not known", "did you mean ebm?"),
    edit("unknown data", "kind: digits", "kind: fashion", "data: kind: 'fashion'", "did you mean fashion_mnist?"),
    edit("unknown strategy", "kind: horovod", "kind: horovd", "strategy.kind: 'horovd'", "did you mean horovod?"),
    edit("unknown optimizer", "kind: adam", "kind: adamw", "train.optimizer: kind: 'adamw'", "did you mean adam?"),
    edit("model without a kind", "kind: ebm, ", "", "job.yaml:3: model: kind is missing", "ebm | lenet"),
    edit("broken attribute", "kind: ebm", "kind: 'my-package:Model'", "model.kind", "package.module:Attribute"),
    edit("own model, no objective", "model: {kind: ebm, filters: [16, 32], hidden: 64}", "model: {kind: 'mine.models:Net'}",
         "objective: missing", "no default objective"),
    edit("own data, no sizes", "data: {kind: digits, image_size: 16, range: [-1, 1]}",
         "data: {kind: 'mine.data:load', range: [-1, 1]}", "data.shape: missing", "data.train_examples: missing"),
]  # fmt: skip
AMOUNTS = [
    edit("bare duration", "duration: {epochs: 20}", "duration: 20", "train.duration: 20 is", "exactly one of steps"),
    edit("two units", "{epochs: 20}", "{epochs: 20, steps: 5}", "exactly one of steps, epochs, examples must be given; steps and epochs came"),
    edit("no unit", "duration: {epochs: 20}", "duration: {}", "train.duration: exactly one of", "none came"),
    edit("unit of the clock", "duration: {epochs: 20}", "duration: {minutes: 5}", "train.duration.minutes: unknown key"),
    edit("unit misspelt", "duration: {epochs: 20}", "duration: {epoch: 20}", "train.duration.epoch", "did you mean epochs?"),
    edit("zero epochs", "duration: {epochs: 20}", "duration: {epochs: 0}", "train.duration.epochs: 0", "at least 1"),
    edit("half an epoch", "samples: {every: {epochs: 1}}", "samples: {every: {epochs: 0.5}}", "samples.every.epochs: 0.5"),
    edit("no minutes", "checkpoint: {every: {epochs: 1}", "checkpoint: {every: {minutes: 0}", "checkpoint.every.minutes: 0", "above 0"),
]  # fmt: skip
ARITHMETIC = [
    edit("indivisible batch", "batch: 128", "batch: 127", "job.yaml:6: train.global_batch: 127", "2 replicas", "126 or 128"),
    edit("indivisible buffer", "size: 8192", "size: 8190", "job.yaml:13: sampler.buffer.size: 8190", "8064 or 8192"),
    edit("buffer below the batch", "size: 8192", "size: 64", "sampler.buffer.size: 64", "such as 128"),
    edit("single with two workers", "kind: horovod", "kind: single", "job.yaml:14: strategy.workers", "one worker; 2 came"),
    edit("mirrored with two workers", "kind: horovod", "kind: mirrored", "strategy mirrored has one worker"),
    edit("horovod with two devices", "workers: 2}", "workers: 2, devices_per_worker: 2}", "one device a worker; 2 came"),
    edit("single with two devices", "kind: horovod, workers: 2", "kind: single, devices_per_worker: 2", "strategy.kind=mirrored"),
    edit("elastic", "workers: 2}", "workers: [5, 7]}", "train.global_batch", "any of 5 to 7 workers"),
    edit("sweep", "storage: runs", "search: {trials: 3}", "job.yaml:18: search.space: missing", "search.metric: missing"),
    edit("chains without a sampler", "sampler:\n  kind: langevin\n  steps: 60\n  buffer: {size: 8192, fresh: 0.05}\n", "",
         "sampler: missing: objective contrastive moves chains"),
    edit("classifier with a sampler", "kind: ebm, filters: [16, 32], hidden: 64", "kind: lenet",
         "job.yaml:10: sampler: objective classification has no chains", "samples: model lenet is a classifier"),
    edit("wrong objective", "storage: runs", "objective: {kind: classification}", "objective.kind: classification cannot train model ebm"),
    edit("range of the chains", "range: [-1, 1]", "range: [0, 1]", "job.yaml:4: data.range", "live in [-1, 1]"),
    edit("metric that is not measured", "keep_last: 2", "keep_best: {metric: validation/accuracy, mode: max}",
         "checkpoint.keep_best.metric: objective contrastive has no validation/accuracy"),
]  # fmt: skip
URLS = [
    edit("unknown scheme", "storage: runs", "storage: s4://bucket/runs", "job.yaml:18: storage: 's4://bucket/runs'", "did you mean s3://?"),
    edit("no bucket", "storage: runs", "storage: 's3://'", "storage", "no bucket or host after s3://"),
    edit("one slash", "storage: runs", "storage: s3:/bucket", "storage", "lacks its ://"),
    edit("no colon", "storage: runs", "storage: s3//bucket", "storage", "lacks its ://"),
    edit("backslashes", "storage: runs", "storage: 's3:\\\\bucket'", "storage", "forward slashes"),
    edit("blank in a URL", "storage: runs", "storage: s3://my bucket/runs", "storage", "blank"),
    edit("empty storage", "storage: runs", "storage: ''", "job.yaml:18: storage: ''"),
    edit("storage that cannot be written", "storage: runs", "storage: https://host/runs", "storage", "no store for https://"),
    edit("unknown scheme of the data", "image_size: 16", "root: gss://bucket", "data.root", "did you mean gs://?"),
]  # fmt: skip
SECRETS = [
    edit("W&B key", "project: lehr", f"project: lehr, api_key: {WANDB_KEY}", "job.yaml:17: tracking.wandb.api_key", "env:NAME", secret=WANDB_KEY),
    edit("W&B key in the notes", "project: lehr", f"project: lehr, notes: {WANDB_KEY}", "tracking.wandb.notes: this looks like a W&B API key", secret=WANDB_KEY),
    edit("plain text for a reference", "project: lehr", "project: lehr, api_key: hunter2", "tracking.wandb.api_key: a secret typed in", "file:PATH", secret="hunter2"),
    edit("AWS key id", "options: {}", f"options: {{key: {AWS_ID}}}", "job.yaml:19: storage_options.key", "AWS access key id", secret=AWS_ID),
    edit("AWS secret", "options: {}", f"options: {{secret: {AWS_SECRET}}}", "storage_options.secret", "AWS secret key", secret=AWS_SECRET),
    edit("nested password", "options: {}", "options: {client_kwargs: {password: swordfish}}", "storage_options.client_kwargs.password", secret="swordfish"),
    edit("Azure's connection string", "options: {}", "options: {connection_string: 'AccountName=x;AccountKey=sesame'}", "storage_options.connection_string: a secret typed in", secret="sesame"),
    edit("Azure's account key", "options: {}", "options: {account_key: sesame}", "storage_options.account_key: a secret typed in", secret="sesame"),
    edit("Azure's SAS token", "options: {}", "options: {sas_token: sv=2024&sesame}", "storage_options.sas_token: a secret typed in", secret="sesame"),
    edit("header for who asks", "options: {}", "options: {client_kwargs: {headers: {Authorization: Basic sesame}}}", "storage_options.client_kwargs.headers.Authorization: a secret typed in", secret="sesame"),
    edit("number for a password", "options: {}", "options: {password: 271828}", "storage_options.password", secret="271828"),
    edit("secret in the URL", "storage: runs", "storage: s3://KEY:SESAME@bucket/runs", "job.yaml:18: storage", "URL with a password in it", secret="SESAME"),
    edit("signed URL", "image_size: 16", "root: 'https://host/d?sig=SESAME'", "data.root", "URL with a signature", secret="SESAME"),
    edit("secret of one's own model", "model: {kind: ebm,", "model: {kind: 'a.b:C', hub_token: sesame,", "model.hub_token: a secret typed in", secret="sesame"),
    edit("secret for a number", "batch: 128", f"batch: {AWS_ID}", "train.global_batch", "AWS access key id", secret=AWS_ID),
    edit("secret for a key", "storage: runs", f"{AWS_ID}: runs", "a key that looks like", secret=AWS_ID),
    override("secret in an override", f"tracking.wandb.api_key={WANDB_KEY}", "--set tracking.wandb.api_key", "env:NAME", secret=WANDB_KEY),
    override("secret for an override", AWS_ID, "not an override", secret=AWS_ID),
]  # fmt: skip
OVERRIDES = [
    override("no value", "train.seed", "--set train.seed: this is not an override", "--set path.to.key=VALUE"),
    override("no key", "=3", "this is not an override"),
    override("empty part", "train..seed=3", "this is not an override"),
    override("unknown key", "train.sed=3", "--set train.sed: train.sed: unknown key", "did you mean seed?"),
    override("wrong type", "train.seed=x", "--set train.seed: train.seed: 'x' is text"),
    override("through a number", "train.seed.deep=1", "train.seed is 0: nothing can be set inside it"),
    override("beyond a list", "model.filters.7=1", "'7' is no place in a list of 2", "use 0 to 1"),
    override("no YAML", "train.duration={steps: 4", "--set train.duration", "not YAML"),
    override("two values for a key", "train.duration={steps: 4, steps: 5}", "train.duration.steps: the key is written a second time"),
    override("indivisible", "strategy.workers=3", "train.global_batch: 128 examples cannot be divided evenly over 3"),
]  # fmt: skip
FILES = [
    whole("empty", "", "job.yaml: the file is empty", "version: 1"),
    whole("only comments", "# nothing\n\n", "job.yaml: the file is empty"),
    whole("a list at the top", "- version: 1\n", "job.yaml: a list of 1 at the top", "a mapping"),
    whole("text at the top", "hello\n", "'hello' at the top"),
    whole("binary", b"\x89PNG\r\n\x1a\n\0\0\0", "job.yaml: a binary file"),
    whole("latin-1", b"version: 1\nname: caf\xe9\n", "job.yaml:2: not UTF-8: byte 0xe9", "save the file as UTF-8"),
    whole("control character", "version: 1\nname: a\x07b\n", "job.yaml:2: character U+0007 is not allowed"),
    whole("tab", "version: 1\ntrain:\n\tseed: 1\n", "job.yaml:3:1: not YAML", "indent with spaces"),
    whole("unclosed brace", "version: 1\nmodel: {kind: ebm\nname: x\n", "job.yaml:3", "not YAML"),
    whole("unclosed quote", "version: 1\nname: 'x\n", "not YAML"),
    whole("colon in plain text", "version: 1\nname: a: b\n", "job.yaml:2:8: not YAML", "quote the text"),
    whole("bad indentation", "version: 1\n name: x\n", "job.yaml:2", "not YAML"),
    whole("unknown alias", "version: 1\nmodel: *m\n", "job.yaml:2", "undefined alias"),
    whole("two documents", "version: 1\n---\nversion: 1\n", "job.yaml:2", "one file holds one job"),
    whole("duplicate key", GOOD + "name: again\n", "job.yaml:20: name: the key is written a second time (first on line 2)"),
    whole("Python object", GOOD.replace("runs", "!!python/object/apply:os.getcwd []"), "job.yaml:18: storage: the tag '!!python"),
    whole("own tag", GOOD.replace("seed: 0", "seed: !big 0"), "job.yaml:8: train.seed: the tag '!big' is not accepted"),
    whole("merge key", GOOD.replace("  seed: 0", "  <<: {seed: 0}"), "job.yaml:8: train: merge keys (<<) are not accepted"),
    whole("key that is no text", GOOD + "[a, b]: 1\n", "job.yaml:20", "a key that is not text"),
    whole("endless alias", "version: 1\nname: &a [*a]\n", "job.yaml:2", "endless"),
    whole("enormous by aliases", "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{b}: &{b} [{','.join(['*' + a] * 10)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)), "endless or enormous"),
    whole("nested too deep", "version: 1\nname: " + "[" * 5000 + "]" * 5000 + "\n", "nested too deep"),
    whole("too large", "# " + "x" * (1 << 20) + "\n", "too many for a job file"),
]  # fmt: skip
CASES = [*TYPES, *VALUES, *KEYS, *AMOUNTS, *ARITHMETIC, *URLS, *SECRETS, *OVERRIDES, *FILES]


def write(case: Case) -> None:
    """The case's `job.yaml` in the current folder."""
    if case.old is None:
        data = case.new if isinstance(case.new, bytes) else case.new.encode()
    else:
        data = GOOD.replace(case.old, str(case.new), 1).encode() if case.old else GOOD.encode()
    Path("job.yaml").write_bytes(data)


def test_there_are_enough() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)


def test_the_good_job_is_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(GOOD)
    code, out, err = lehr(["check", "job.yaml"], capsys, monkeypatch)
    assert (code, err) == (0, "")
    assert "good" in out


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_malformed(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(case)
    before = Path("job.yaml").read_bytes()
    code, out, err = lehr(
        ["check", "job.yaml", *(part for text in case.sets for part in ("--set", text))], capsys, monkeypatch
    )
    assert (code, out) == (2, ""), err
    for words in case.said:
        assert words in err
    assert err.startswith(("job.yaml", "--set")), err
    assert "Traceback" not in err
    assert "pydantic" not in err
    if case.secret:
        assert case.secret not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job.yaml"]
    assert Path("job.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "absent.yaml"], ["absent.yaml: no such file", "there are job.yaml"]),
        (["check", "jop.yaml"], ["jop.yaml: no such file", "did you mean job.yaml?"]),
        (["check", "."], [".: a folder", "there are job.yaml"]),
        (["check", "no/such/folder/job.yaml"], ["no such file"]),
        (["check", "s3://KEY:SESAME@bucket/job.yaml"], ["URL with a password in it"]),
        (["plan", "absent.yaml"], ["absent.yaml: no such file"]),
    ],
)
def test_missing_file(
    arguments: list[str],
    said: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(GOOD)
    code, out, err = lehr(arguments, capsys, monkeypatch)
    assert (code, out) == (2, "")
    assert all(words in err for words in said), err
    assert "SESAME" not in err
    assert len(list(tmp_path.iterdir())) == 1


def test_every_problem_at_once_in_the_order_of_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = GOOD.replace("[16, 32]", "[16, wide]").replace("seed: 0", "sed: 0").replace("runs", "s4://x")
    Path("job.yaml").write_text(text + "name: again\n")
    code, _, err = lehr(["check", "job.yaml", "--set", "train.duration=3"], capsys, monkeypatch)
    where = [line.split(": ")[0] for line in err.splitlines() if not line.startswith(" ")]
    assert code == 2
    assert where == ["job.yaml:3", "job.yaml:8", "job.yaml:18", "job.yaml:20", "--set train.duration"]


@given(
    place=st.integers(0, len(GOOD)),
    cut=st.integers(0, 30),
    text=st.text("abz0159.-+:{}[],&*!|>'\"#%@\\~<= \n\t\x00é", max_size=8),
)
@settings(max_examples=300)
def test_whatever_is_typed_it_is_a_job_or_a_letter(place: int, cut: int, text: str) -> None:
    said = "job.yaml"
    try:
        plans.make(specs.parse(GOOD[:place] + text + GOOD[place + cut :], source="job.yaml"))
    except SpecError as error:
        said = str(error)
    assert said.startswith("job.yaml")


@pytest.mark.parametrize("case", [ARITHMETIC[0], SECRETS[0], FILES[4]], ids=lambda case: case.name)
def test_malformed_in_a_process_of_its_own(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(case)
    done = subprocess.run(
        [sys.executable, "-m", "lehr", "plan", "job.yaml"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert all(words in done.stderr for words in case.said)
    assert [path.name for path in tmp_path.iterdir()] == ["job.yaml"]
