"""The text of a job file."""

from __future__ import annotations

import codecs
from pathlib import Path

from lehr.errors import KeyMissing, LehrError, SpecError, UserError, letter
from lehr.spec.place import nearest
from lehr.spec.secrets import looks_like

LARGEST = 1 << 20  # bytes; a job file fits a screen


def text(path: str) -> str:
    """The text of a job file, from a local path or a URL.

    Raises:
        SpecError: nothing is there, or it is no text.
    """
    if what := looks_like(path):
        raise SpecError(
            letter("the job file's path", f"this looks like {what}", do="give the store its secrets apart")
        )
    data = _remote(path) if "://" in path else _local(Path(path))
    if len(data) > LARGEST:
        raise SpecError(letter(path, f"{len(data):,} bytes are too many for a job file"))
    if b"\0" in data:
        raise SpecError(letter(path, "a binary file", accepted="a YAML file in UTF-8"))
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        came = f"not UTF-8: byte 0x{data[error.start]:02x} cannot be read"
        raise SpecError(letter(f"{path}:{line}", came, do="save the file as UTF-8")) from None


def _local(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST + 1)
    except IsADirectoryError:
        raise SpecError(
            letter(str(path), "a folder", accepted="a YAML file", do=_suggestion(path, ""))
        ) from None
    except FileNotFoundError:
        raise SpecError(letter(str(path), "no such file", do=_suggestion(path.parent, path.name))) from None
    except (OSError, ValueError) as error:
        raise SpecError(
            letter(str(path), f"cannot be read: {getattr(error, 'strerror', None) or error}")
        ) from None


def _suggestion(folder: Path, name: str) -> str:
    """The job file in `folder` that was meant, or those that are there."""
    try:
        found = sorted(path.name for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))
    except OSError:
        return ""
    if close := nearest(name, found):
        return f"did you mean {folder / close}?"
    return f"there are {', '.join(found[:8])}" if found else ""


def _remote(url: str) -> bytes:
    from lehr import store

    scheme, _, rest = url.partition("://")
    folder, _, name = rest.rpartition("/")
    if not name:
        raise SpecError(letter(url, "a folder", accepted="the URL of a YAML file"))
    try:
        return store.connect(f"{scheme}://{folder}").read(name, 0, LARGEST + 1)
    except KeyMissing:
        raise SpecError(letter(url, "no such file", do="look at the bucket and the spelling")) from None
    except UserError as error:  # it tells what to do
        raise SpecError(str(error)) from error
    except LehrError as error:
        raise SpecError(letter(url, f"cannot be read: {_reason(error)}", do=_advice(error))) from error


def _reason(error: LehrError) -> str:
    """What the store said, and what that means."""
    from lehr.store.failures import Kind, kind

    found = kind(error)
    return str(error) if found in (Kind.OTHER, Kind.MISSING) else f"{found.value} ({error})"


def _advice(error: LehrError) -> str:
    from lehr.store.failures import Kind, kind

    return {
        Kind.NO_BUCKET: "correct the bucket's name",
        Kind.CREDENTIALS: "give this process the credentials where its cloud looks for them (for s3 "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the machine's role)",
        Kind.PERMISSION: "let these credentials read it",
        Kind.UNREACHABLE: "look whether the address is right (for s3 AWS_ENDPOINT_URL) and the server runs",
    }.get(kind(error), "")
