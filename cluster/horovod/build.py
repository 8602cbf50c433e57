"""Build the Horovod wheel against the TensorFlow of this interpreter, and install it.

Horovod publishes no wheels, and its last source distribution (0.28.1) neither compiles against
TensorFlow >= 2.16 (its XLA ops need headers that TensorFlow's wheel leaves out) nor honours
HOROVOD_GLOO_IFACE in process sets. ``patches/`` mends both. The wheel is kept in a cache outside the
checkout under a key of everything that goes into it, so a second ``make setup`` takes seconds.

    python cluster/horovod/build.py                 # build if the cache lacks it, install
    python cluster/horovod/build.py --gpu           # with NCCL; needs CUDA and NCCL headers
    python cluster/horovod/build.py --print-key     # what the cache key is

Needs a C++ compiler, cmake, git (to apply the patches) and TensorFlow installed in this interpreter.
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
from pathlib import Path

HERE = Path(__file__).parent
VERSION = "0.28.1"
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
GPU_FLAGS = {"HOROVOD_GPU": "CUDA", "HOROVOD_GPU_OPERATIONS": "NCCL"}


def patches() -> list[Path]:
    return sorted((HERE / "patches").glob("*.patch"))


def flags(*, gpu: bool) -> dict[str, str]:
    return FLAGS | (GPU_FLAGS if gpu else {})


def cache_key(*, gpu: bool) -> str:
    """Name of the cache folder: readable versions, then a digest of patches and flags."""
    digest = hashlib.sha256(repr(sorted(flags(gpu=gpu).items())).encode())
    for patch in patches():
        digest.update(patch.read_bytes())
    tensorflow = importlib.metadata.version("tensorflow")
    abi = f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}"
    device = "gpu" if gpu else "cpu"
    return f"horovod-{VERSION}-tensorflow-{tensorflow}-{abi}-{device}-{digest.hexdigest()[:12]}"


def cache_root() -> Path:
    base = os.environ.get("LEHR_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lehr" / "horovod"


def fail(what: str, do: str) -> None:
    raise SystemExit(f"horovod build: {what}\n  {do}")


def pip(*arguments: str, **keywords) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    if subprocess.run(command, **keywords).returncode:
        fail(f"'pip {' '.join(arguments)}' failed", "see its output above")


def check_tools() -> None:
    for tool, package in (("cmake", "cmake"), ("git", "git"), (os.environ.get("CXX", "c++"), "g++")):
        if shutil.which(tool) is None:
            fail(f"'{tool}' is not on the PATH", f"install it (Debian: apt-get install {package})")


def source(into: Path) -> Path:
    """Download the source distribution, unpack it under `into` and patch it."""
    pip("download", "--quiet", "--no-deps", "--no-build-isolation", "--no-binary", "horovod",
        "--dest", str(into), f"horovod=={VERSION}")
    with tarfile.open(into / f"horovod-{VERSION}.tar.gz") as archive:
        archive.extractall(into, filter="data")
    folder = into / f"horovod-{VERSION}"
    # Without the ceiling, `git apply` inside another repository silently applies nothing.
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(into)}
    for patch in patches():
        subprocess.run(["git", "apply", "--whitespace=nowarn", str(patch)], cwd=folder,
                       env=environment, check=True)
    return folder


def build(target: Path, *, gpu: bool) -> Path:
    """Compile the wheel into `target`; at most half-made files stay in a temporary folder."""
    check_tools()
    with tempfile.TemporaryDirectory(prefix="lehr-horovod-") as name:
        work = Path(name)
        folder = source(work)
        environment = os.environ | flags(gpu=gpu) | {"MAKEFLAGS": f"-j{os.cpu_count()}"}
        pip("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(work / "out"),
            str(folder), env=environment)
        [wheel] = (work / "out").glob("horovod-*.whl")
        target.mkdir(parents=True, exist_ok=True)
        # Copy, then rename: a second build that runs at the same time never sees half a wheel.
        partial = target / f".{os.getpid()}.partial"
        shutil.copy(wheel, partial)
        return partial.rename(target / wheel.name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gpu", action="store_true", help="build with NCCL for CUDA devices")
    parser.add_argument("--print-key", action="store_true", help="print the cache key and stop")
    arguments = parser.parse_args()
    key = cache_key(gpu=arguments.gpu)
    if arguments.print_key:
        print(key)
        return
    folder = cache_root() / key
    wheels = list(folder.glob("horovod-*.whl"))
    if not wheels:
        print(f"building {key} (about 2 minutes on 2 cores)", flush=True)
        wheels = [build(folder, gpu=arguments.gpu)]
    pip("install", "--quiet", "--no-deps", "--force-reinstall", str(wheels[0]))
    print(f"horovod {VERSION} installed from {wheels[0]}")


if __name__ == "__main__":
    main()
