"""What travels with a submitted job: files in a zip, whose name is the hash of what is in it.

Ray unpacks the working folder's where the driver and the workers stand, and puts the other kind, modules, on
their path. Equal content has an equal name, and is sent once.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import lehr
from lehr.errors import UserError, letter

LARGEST = 100 << 20  # what a dashboard takes in one request
UNPACKED = 5 * LARGEST  # more than this is not even packed
JOB = "job.yaml"
_NEEDLESS = ("__pycache__", ".git", ".venv", ".mypy_cache", ".pytest_cache", ".ruff_cache", "node_modules")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can name: the content alone shall count


@dataclass(frozen=True)
class Parcel:
    """A zip, whole, in memory."""

    data: bytes

    @property
    def name(self) -> str:
        """Of the package, as Ray calls it."""
        return f"_ray_pkg_{hashlib.sha256(self.data).hexdigest()[:40]}.zip"

    @property
    def uri(self) -> str:
        """Where Ray keeps it: in the memory of the head."""
        return f"gcs://{self.name}"


def job(text: str, extras: Iterable[str] = ()) -> Parcel:
    """The working folder of a job: its file and the user's own modules, each under its own name.

    Args:
        text: of the job file.
        extras: packages (folders) and modules (files).

    Raises:
        UserError: one of them is not there, or has the name of another one, or all are too large.
    """
    files: dict[str, bytes | Path] = {JOB: text.encode()}
    for given in extras:
        path = Path(given).expanduser().resolve()
        if not path.exists():
            raise UserError(letter(f"--with {given}", "there is no such folder or file"))
        if path.name in {name.partition("/")[0] for name in files} | {"lehr"}:
            raise UserError(letter(f"--with {given}", f"{path.name} travels already"))
        files |= dict(_files(path))
    return _packed(files, "--with")


def package() -> Parcel:
    """The package `lehr` that is running."""
    return _packed(dict(_files(Path(lehr.__file__).parent)), "--ship")


def _files(path: Path) -> Iterator[tuple[str, bytes | Path]]:
    """Each file by its name, which begins with the last part of `path`."""
    if path.is_file():
        yield path.name, path
        return
    for inner in sorted(path.rglob("*")):
        name = inner.relative_to(path.parent)
        if inner.is_file() and not set(name.parts) & set(_NEEDLESS) and inner.suffix not in (".pyc", ".pyo"):
            yield name.as_posix(), inner


def _packed(files: Mapping[str, bytes | Path], where: str) -> Parcel:
    total = sum(content.stat().st_size for content in files.values() if isinstance(content, Path))
    if total > UNPACKED:
        raise _too_large(where, total)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            data = content.read_bytes() if isinstance(content, Path) else content
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED, 6)
    packed = buffer.getvalue()
    if len(packed) > LARGEST:
        raise _too_large(where, len(packed))
    return Parcel(packed)


def _too_large(where: str, size: int) -> UserError:
    came = f"{size >> 20} MiB shall travel with the job"
    do = "data belongs in storage (data.root), large packages in the image of the cluster"
    return UserError(letter(where, came, accepted=f"at most {LARGEST >> 20} MiB of modules", do=do))
