"""The Horovod build around the compiler: key, patches, sources, cache. `make setup` builds the wheel."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def build() -> ModuleType:
    """A fresh copy of cluster/horovod/build.py, which is a script and in no package."""
    spec = importlib.util.spec_from_file_location("horovod_build", ROOT / "cluster" / "horovod" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_key_is_stable_and_readable(build: ModuleType) -> None:
    key = build.cache_key(gpu=False)
    assert key == build.cache_key(gpu=False)
    assert re.fullmatch(r"horovod-0\.28\.1-tensorflow-[\d.]+-cpython-\d+-[\w.-]+-cpu-[0-9a-f]{12}", key)


def test_key_changes_with_all_that_goes_into_the_wheel(build: ModuleType, tmp_path: Path) -> None:
    keys = {build.cache_key(gpu=False), build.cache_key(gpu=True)}
    build.SOURCE_SHA256 = "0" * 64
    keys.add(build.cache_key(gpu=False))
    build.FLAGS = build.FLAGS | {"HOROVOD_WITH_MPI": "1"}
    keys.add(build.cache_key(gpu=False))
    (tmp_path / "patches").mkdir()
    (tmp_path / "patches" / "0001.patch").write_text("changed")
    build.HERE = tmp_path
    keys.add(build.cache_key(gpu=False))
    assert len(keys) == 5


def test_cache_is_outside_the_checkout(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("LEHR_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert build.cache_root() == tmp_path / ".cache" / "lehr" / "horovod"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert build.cache_root() == tmp_path / "xdg" / "lehr" / "horovod"
    monkeypatch.setenv("LEHR_CACHE", str(tmp_path / "own"))
    assert build.cache_root() == tmp_path / "own" / "horovod"


def test_flags_of_the_callers_shell_do_not_change_the_wheel(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOROVOD_GPU_OPERATIONS", "MPI")
    monkeypatch.setenv("HOROVOD_WITH_MPI", "1")
    monkeypatch.setenv("HOROVOD_NCCL_HOME", "/opt/nccl")
    found = build.environment(gpu=False)
    assert "HOROVOD_GPU_OPERATIONS" not in found
    assert "HOROVOD_WITH_MPI" not in found
    assert found["HOROVOD_NCCL_HOME"] == "/opt/nccl"
    assert found["HOROVOD_WITH_GLOO"] == "1"
    assert build.environment(gpu=True)["HOROVOD_GPU_OPERATIONS"] == "NCCL"


def hunks(patch: str) -> list[tuple[str, int, list[str], list[str]]]:
    """(file, first line, lines before, lines after) of every hunk of a unified diff."""
    found: list[tuple[str, int, list[str], list[str]]] = []
    name = ""
    for line in patch.splitlines():
        if line.startswith("+++ "):
            name = line.removeprefix("+++ b/")
        elif start := re.match(r"@@ -(\d+)", line):
            found.append((name, int(start[1]), [], []))
        elif found and not line.startswith("---"):
            if line[:1] in (" ", "-", ""):
                found[-1][2].append(line[1:])
            if line[:1] in (" ", "+", ""):
                found[-1][3].append(line[1:])
    return found


def test_patches_change_the_sources_even_inside_a_repository(build: ModuleType, tmp_path: Path) -> None:
    """Below another repository `git apply` does nothing and says nothing, unless it is told where to stop."""
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    folder = tmp_path / "horovod"
    expected: dict[Path, str] = {}
    for patch in build.patches():
        [(name, first, before, after)] = hunks(patch.read_text())
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        filler = [f"// line {number}" for number in range(1, first)]
        path.write_text("\n".join([*filler, *before, "// the end"]) + "\n")
        expected[path] = "\n".join([*filler, *after, "// the end"]) + "\n"
    assert len(expected) == 3
    build.apply_patches(folder)
    assert {path: path.read_text() for path in expected} == expected


def test_patch_that_does_not_fit_stops_the_build(build: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "horovod"
    folder.mkdir()
    with pytest.raises(SystemExit, match="applying 0001-leave-out-xla-ops"):
        build.apply_patches(folder)


def test_other_sources_are_refused(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        build, "pip", lambda *words, **keywords: (tmp_path / "horovod-0.28.1.tar.gz").write_bytes(b"other")
    )
    with pytest.raises(SystemExit, match="have sha256 d9298a10d1b0"):
        build.source(tmp_path)


def test_missing_tool_is_named_with_its_package(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        SystemExit, match=r"'cmake' is not on the PATH\n  do: install it \(Debian: apt-get install cmake"
    ):
        build.check_needs(gpu=False)


def test_gpu_build_without_cudas_compiler_is_refused(
    build: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = build.shutil.which
    monkeypatch.delenv("HOROVOD_CUDA_HOME", raising=False)
    monkeypatch.setattr(build.shutil, "which", lambda tool: None if tool == "nvcc" else real(tool))
    build.check_needs(gpu=False)
    with pytest.raises(SystemExit, match="HOROVOD_CUDA_HOME"):
        build.check_needs(gpu=True)


class Recorder:
    """Stands in for compiling and installing, which would change this environment."""

    def __init__(self, build: ModuleType, *, broken: bool = False) -> None:
        self.built = 0
        self.installed: list[Path] = []
        self.broken = broken
        build.build, build.install = self.build, self.install

    def build(self, work: Path, *, gpu: bool) -> Path:
        self.built += 1
        wheel = work / "horovod-0.28.1-cp311-cp311-linux_x86_64.whl"
        wheel.write_bytes(b"a wheel")
        return wheel

    def install(self, wheel: Path, *, gpu: bool) -> None:
        if self.broken:
            raise SystemExit("importing horovod.tensorflow failed")
        assert wheel.read_bytes() == b"a wheel"
        self.installed.append(wheel)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("LEHR_CACHE", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["build.py"])
    return tmp_path


def test_second_build_comes_from_the_cache(build: ModuleType, cache: Path) -> None:
    recorder = Recorder(build)
    build.main()
    build.main()
    assert recorder.built == 1
    [kept] = cache.rglob("*.whl")
    assert recorder.installed[1] == kept
    assert kept.parent.name == build.cache_key(gpu=False)
    assert not list(cache.rglob(".*.partial"))


def test_wheel_that_cannot_be_imported_is_not_kept(build: ModuleType, cache: Path) -> None:
    Recorder(build, broken=True)
    with pytest.raises(SystemExit):
        build.main()
    assert not list(cache.rglob("*.whl"))


def test_print_key_builds_nothing(
    build: ModuleType, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder = Recorder(build)
    monkeypatch.setattr("sys.argv", ["build.py", "--print-key"])
    build.main()
    assert capsys.readouterr().out.strip() == build.cache_key(gpu=False)
    assert recorder.built == 0
