"""Build the Horovod wheel against the TensorFlow of this interpreter, and install it.

Horovod publishes no wheels, and its last source distribution does not work with today's TensorFlow as it
is; `patches/` mends it (README.md says what and why). The wheel is kept in a cache outside the checkout
under a key of everything that goes into it, so a second `make setup` takes seconds.

    python cluster/horovod/build.py                 # build if the cache lacks it, install, import
    python cluster/horovod/build.py --gpu           # with NCCL; needs CUDA's nvcc and NCCL's headers
    python cluster/horovod/build.py --print-key     # what the cache key is

Needs a C++ compiler, cmake, git (to apply the patches), and TensorFlow, setuptools and wheel in this
interpreter.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

HERE = Path(__file__).parent
CONSTRAINTS = HERE.parents[1] / "constraints.txt"
VERSION = "0.28.1"
SOURCE_SHA256 = "92a43f5a94c43907a56805bad15f19700c62ffc83b7ca483f9e104e229f67ef0"
# Each flag is stated, so that what is found on the build machine never changes the wheel.
FLAGS = {
    "HOROVOD_WITH_TENSORFLOW": "1",
    "HOROVOD_WITHOUT_PYTORCH": "1",
    "HOROVOD_WITHOUT_MXNET": "1",
    "HOROVOD_WITH_GLOO": "1",
    "HOROVOD_WITHOUT_MPI": "1",
    # cmake 4 refuses projects that ask for less than 3.5; gloo asks for 2.8.
    "CMAKE_POLICY_VERSION_MINIMUM": "3.5",
}
GPU_FLAGS = {
    "HOROVOD_GPU": "CUDA",
    "HOROVOD_GPU_OPERATIONS": "NCCL",
    # Volta to Blackwell; PTX of the last serves what comes after.
    "HOROVOD_BUILD_CUDA_CC_LIST": "70,75,80,86,89,90,100,120",
}
IMPORT = """
import horovod.tensorflow as hvd
assert hvd.gloo_built(), "the wheel has no Gloo"
assert {gpu} == bool(hvd.nccl_built()), f"NCCL in the wheel: {{hvd.nccl_built()}}"
"""


def patches() -> list[Path]:
    """The patches in the order in which they are applied."""
    return sorted((HERE / "patches").glob("*.patch"))


def flags(*, gpu: bool) -> dict[str, str]:
    """What decides what is built."""
    return FLAGS | (GPU_FLAGS if gpu else {})


def environment(*, gpu: bool) -> dict[str, str]:
    """This process's environment; of Horovod's own only the flags and the places of CUDA and NCCL."""
    places = ("_HOME", "_INCLUDE", "_LIB", "_LINK")
    outer = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HOROVOD_") or name.endswith(places)
    }
    return outer | flags(gpu=gpu) | {"MAKEFLAGS": f"-j{cores()}"}


def cache_key(*, gpu: bool) -> str:
    """Name of the cache folder: readable versions, then a digest of source, patches and flags."""
    digest = hashlib.sha256(SOURCE_SHA256.encode())
    digest.update(repr(sorted(flags(gpu=gpu).items())).encode())
    for patch in patches():
        digest.update(patch.read_bytes())
    tensorflow = importlib.metadata.version("tensorflow")
    abi = f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}"
    device = "gpu" if gpu else "cpu"
    return f"horovod-{VERSION}-tensorflow-{tensorflow}-{abi}-{device}-{digest.hexdigest()[:12]}"


def cache_root() -> Path:
    """Where wheels are kept: $LEHR_CACHE, $XDG_CACHE_HOME/lehr or ~/.cache/lehr, then horovod/."""
    if chosen := os.environ.get("LEHR_CACHE"):
        return Path(chosen) / "horovod"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lehr" / "horovod"


def fail(what: str, do: str) -> NoReturn:
    raise SystemExit(f"horovod build: {what}\n  do: {do}")


def command(
    *words: str, what: str, variables: Mapping[str, str] | None = None, folder: Path | None = None
) -> None:
    """Run a command to its end. What it says is shown only when it fails; `what` names it then."""
    said = subprocess.run(
        words,
        env=variables,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if said.returncode:
        print(said.stdout, file=sys.stderr)
        fail(f"{what} failed", "see the output above")


def pip(*words: str, what: str, variables: Mapping[str, str] | None = None) -> None:
    command(
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        *words,
        "--quiet",
        what=what,
        variables=variables,
    )


def cores() -> int:
    """Cores that this process may use; in a container they are fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_needs(*, gpu: bool) -> None:
    """Stop with what to install when a tool or TensorFlow is missing."""
    tools = {"cmake": "cmake", "git": "git", os.environ.get("CXX", "c++"): "g++"}
    for tool, package in tools.items():
        if shutil.which(tool) is None:
            fail(f"'{tool}' is not on the PATH", f"install it (Debian: apt-get install {package})")
    if gpu and shutil.which("nvcc") is None and "HOROVOD_CUDA_HOME" not in os.environ:
        fail(
            "no CUDA compiler: 'nvcc' is not on the PATH",
            "install CUDA's toolkit, or name it in HOROVOD_CUDA_HOME",
        )
    for package in ("tensorflow", "setuptools", "wheel"):
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            fail(
                f"'{package}' is not installed in {sys.executable}",
                f"pip install -c constraints.txt {package}",
            )


def source(into: Path) -> Path:
    """Download the source distribution, verify, unpack and patch it; the folder of its sources."""
    pip(
        *("download", "--no-deps", "--no-build-isolation", "--no-binary", "horovod"),
        *("--dest", str(into), f"horovod=={VERSION}"),
        what="downloading Horovod's sources",
    )
    path = into / f"horovod-{VERSION}.tar.gz"
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SOURCE_SHA256:
        fail(
            f"the sources of horovod {VERSION} have sha256 {found}, not {SOURCE_SHA256}",
            "do not use them; ask why",
        )
    with tarfile.open(path) as archive:
        # Python before 3.11.4 knows no filters; the sum above has vouched for what is inside.
        if hasattr(tarfile, "data_filter"):
            archive.extractall(into, filter="data")
        else:
            archive.extractall(into)
    folder = into / f"horovod-{VERSION}"
    apply_patches(folder)
    return folder


def apply_patches(folder: Path) -> None:
    """Apply every patch to the sources in `folder`; stops at one that does not fit."""
    # Without the ceiling, `git apply` inside another repository silently applies nothing.
    variables = os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent.resolve())}
    for patch in patches():
        words = ("git", "apply", "--whitespace=nowarn", str(patch.resolve()))
        command(*words, what=f"applying {patch.name}", variables=variables, folder=folder)


def build(work: Path, *, gpu: bool) -> Path:
    """Compile the wheel under `work`; its path."""
    folder = source(work)
    pip(
        *("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(work / "out"), str(folder)),
        what="compiling Horovod",
        variables=environment(gpu=gpu),
    )
    [wheel] = (work / "out").glob("horovod-*.whl")
    return wheel


def keep(wheel: Path, folder: Path) -> Path:
    """Put the wheel into the cache: copied, then renamed, so that nobody ever sees half of it."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{os.getpid()}.partial"
    shutil.copy(wheel, partial)
    return partial.rename(folder / wheel.name)


def install(wheel: Path, *, gpu: bool) -> None:
    """Install the wheel and what it needs, and import it: a wheel may compile and still lack a symbol."""
    pip("install", "--no-deps", "--force-reinstall", str(wheel), what=f"installing {wheel.name}")
    pip("install", "--constraint", str(CONSTRAINTS), str(wheel), what="installing what Horovod needs")
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    command(
        sys.executable, "-c", IMPORT.format(gpu=gpu), what="importing horovod.tensorflow", variables=quiet
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--gpu", action="store_true", help="build with NCCL for CUDA devices")
    parser.add_argument("--print-key", action="store_true", help="print the cache key and stop")
    arguments = parser.parse_args()
    if not arguments.print_key:
        check_needs(gpu=arguments.gpu)
    key = cache_key(gpu=arguments.gpu)
    if arguments.print_key:
        print(key)
        return
    folder = cache_root() / key
    if cached := sorted(folder.glob("horovod-*.whl")):
        install(cached[0], gpu=arguments.gpu)
        print(f"horovod {VERSION} installed from {cached[0]}")
        return
    print(f"building {key} (about 2 minutes on 2 cores)", flush=True)
    with tempfile.TemporaryDirectory(prefix="lehr-horovod-") as work:
        wheel = build(Path(work), gpu=arguments.gpu)
        install(wheel, gpu=arguments.gpu)
        print(f"horovod {VERSION} built, installed and kept as {keep(wheel, folder)}")


if __name__ == "__main__":
    main()
