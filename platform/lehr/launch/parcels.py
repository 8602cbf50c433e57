"""What travels with a submitted job: files in a zip, whose name is the hash of what is in it.

Ray unpacks the working folder's where the driver and the workers stand, and puts the other kind, modules, on
their path. Equal content has an equal name, and is sent once.
"""

from __future__ import annotations

import dataclasses
import fnmatch
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
# What keys and passwords are kept in. The head's memory is no place for them, and every host gets a copy.
_SECRET = (".env", ".env.*", ".netrc", "*.pem", "*.key", "*.p12", "*.pfx", "id_rsa*", "id_ed25519*",
           "id_ecdsa*", "credentials*", ".git-credentials", ".pypirc")  # fmt: skip
_SECRETS = (".aws", ".ssh", ".kube", ".gnupg")  # folders
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can name: the content alone shall count


@dataclass(frozen=True)
class Parcel:
    """A zip, whole, in memory.

    Args:
        data: the zip.
        withheld: names of files that stay here, for they look as if secrets were in them.
    """

    data: bytes
    withheld: tuple[str, ...] = ()

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
    withheld: list[str] = []
    for given in extras:
        path = Path(given).expanduser().resolve()
        if not path.exists():
            raise UserError(letter(f"--with {given}", "there is no such folder or file"))
        if path.name in {name.partition("/")[0] for name in files} | {"lehr"}:
            raise UserError(letter(f"--with {given}", f"{path.name} travels already"))
        found = dict(_files(path))
        secret = [name for name in found if path.is_dir() and _is_secret(name)]  # who names a file means it
        files |= {name: content for name, content in found.items() if name not in secret}
        withheld += secret
    return dataclasses.replace(_packed(files, "--with"), withheld=tuple(withheld))


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


def _is_secret(name: str) -> bool:
    """Whether secrets are kept under such a name, its folders included; never under that of a module."""
    *folders, last = name.lower().split("/")
    if set(folders) & set(_SECRETS):
        return True
    return not last.endswith(".py") and any(fnmatch.fnmatchcase(last, pattern) for pattern in _SECRET)


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
