"""The Dockerfile, read: no engine builds it in the tests, so all that can be known without one is checked."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEVICES = ("cpu", "gpu")


@dataclass
class Stage:
    """One FROM and what follows; instructions are (word, the rest), continued lines joined."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        return [rest for name, rest in self.instructions if name == word]


def read(text: str) -> tuple[dict[str, str], dict[str, Stage]]:
    """Global build arguments with their defaults, and the stages by name."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    current: Stage | None = None
    for line in lines.replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            current = stages[name] = Stage(base)
        elif word == "ARG" and current is None:
            name, _, default = rest.partition("=")
            arguments[name] = default
        elif word and current is not None:
            current.instructions.append((word, re.sub(r"\s+", " ", rest)))
    return arguments, stages


TEXT = (ROOT / "Dockerfile").read_text()
ARGUMENTS, STAGES = read(TEXT)


def expand(text: str, device: str) -> str:
    values = ARGUMENTS | {"DEVICE": device}
    return re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], text)


def lineage(name: str, device: str) -> list[str]:
    """Stages from `name` down to the one that starts from an image."""
    found = [name]
    while (base := expand(STAGES[found[-1]].base, device)) in STAGES:
        found.append(base)
    return found


def environment(names: list[str]) -> str:
    return "\n".join(rest for name in names for rest in STAGES[name].all("ENV"))


def test_hadolint_finds_nothing() -> None:
    linter = Path(sysconfig.get_path("scripts")) / "hadolint"
    said = subprocess.run([linter, "--no-color", "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert (said.returncode, said.stdout + said.stderr) == (0, "")


def test_every_stage_resolves_for_either_device() -> None:
    order = list(STAGES)
    for device in DEVICES:
        for name in ("build", "runtime"):
            chain = lineage(name, device)
            assert f"-{device}" in "".join(chain)
            assert chain == sorted(chain, key=order.index, reverse=True), "a stage uses one that comes later"
            image = expand(STAGES[chain[-1]].base, device)
            assert re.fullmatch(r"python:3\.\d+-slim-bookworm", image), image


def test_only_a_gpu_build_pulls_cuda() -> None:
    def sources(device: str) -> set[str]:
        chain = [*lineage("runtime", device), *lineage("build", device)]
        return {
            f
            for name in chain
            for copy in STAGES[name].all("COPY")
            for f in re.findall(r"--from=(\S+)", copy)
        }

    assert "cuda" in sources("gpu")
    assert "cuda" not in sources("cpu")
    assert sources("gpu") <= set(STAGES)


def test_build_arguments_are_declared_and_used() -> None:
    used = set(re.findall(r"\$\{(\w+)\}", TEXT))
    assert used == set(ARGUMENTS), "declared and used differ"
    assert ARGUMENTS["DEVICE"] == "cpu"
    assert not [rest for stage in STAGES.values() for rest in stage.all("ARG")], (
        "needed in a stage: declare it there"
    )


def test_python_is_one_that_the_package_accepts() -> None:
    assert ARGUMENTS["PYTHON_VERSION"] == "3.11"
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text()


def copied() -> list[str]:
    """Sources of COPY that come from the checkout."""
    copies = [copy for stage in STAGES.values() for copy in stage.all("COPY") if "--from=" not in copy]
    return [source for copy in copies for source in re.sub(r"--\S+ ", "", copy).split()[:-1]]


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines, "the context must begin empty"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert set(copied()) == let_in
    for source in let_in:
        assert (ROOT / source).exists(), source


def test_environment_names_the_flags_that_build_takes() -> None:
    said = subprocess.run(
        [sys.executable, "cluster/horovod/build.py", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for device, flag in (("cpu", ""), ("gpu", "--gpu")):
        found = re.findall(r'BUILD_FLAGS="([^"]*)"', environment(lineage("build", device)))
        assert found[0] == flag
        assert flag in said.stdout


def test_steps_are_those_of_make_setup() -> None:
    """Both install, in this order and under the constraints: build tools, TensorFlow, Horovod, lehr."""
    makefile = (ROOT / "Makefile").read_text().partition("\n$(STAMP):")[2].partition("\n\nrun:")[0]
    makefile = makefile.partition("\n\t")[2]
    image = " && ".join(STAGES["build"].all("RUN"))
    for text in (makefile, image):
        marks = [
            re.search(pattern, text, re.IGNORECASE)
            for pattern in (
                r"pip setuptools wheel",
                r"'tensorflow|\"\$TENSORFLOW\"",
                r"horovod/build\.py",
                r"['\"]\.\$",
            )
        ]
        assert all(marks), text
        starts = [mark.start() for mark in marks if mark]
        assert starts == sorted(starts)
    assert image.count("pip install") == image.count("--constraint constraints.txt")
    assert "--constraint constraints.txt" in (ROOT / "Makefile").read_text()


def test_gpu_stage_gives_the_build_what_it_looks_for() -> None:
    there = environment(lineage("build", "gpu"))
    for name in ("HOROVOD_CUDA_HOME", "HOROVOD_NCCL_INCLUDE", "HOROVOD_NCCL_LIB"):
        [place] = re.findall(rf"{name}=(\S+)", there)
        assert any(f" {place}" in copy for copy in STAGES["compiler-gpu"].all("COPY")), place
    assert "tensorflow[and-cuda]" in there


def test_image_runs_as_a_user_and_holds_no_secret() -> None:
    assert STAGES["runtime"].all("USER") == ["1000:1000"]
    assert not re.search(
        r"(?i)api_key|token|password|secret=",
        "\n".join(line for line in TEXT.splitlines() if line[:1] != "#"),
    )
    assert STAGES["runtime"].all("ENTRYPOINT") == ['["lehr"]']


def test_image_is_what_rays_launcher_expects() -> None:
    """It looks up the home, copies with rsync, reaches workers with ssh, and runs login shells."""
    runtime = STAGES["runtime"]
    [home] = [rest.partition("=")[2] for rest in runtime.all("ENV") if rest.startswith("HOME=")]
    steps = " ".join(runtime.all("RUN"))
    assert runtime.all("WORKDIR") == [home]
    assert "useradd --create-home --uid 1000 lehr" in steps
    assert {"rsync", "openssh-client"} <= set(steps.split())
    assert re.search(r"PATH=\$PATH\" > /etc/profile\.d/", steps)
    for device in DEVICES:
        assert re.search(r'LEHR_EXTRA="\[[\w,]*\blauncher\]"', environment(lineage("build", device))), device
