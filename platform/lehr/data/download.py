"""Published files, fetched once a host into a cache and believed only with their checksum."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import md5
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urljoin

from lehr.data.published import Published
from lehr.errors import UserError, letter

TIMEOUT_S = 30.0
TRIES = 3
PAUSE_S = 1.0


class _Refused(Exception):
    """A home does not give the file, and asking again would not help."""


def cache_folder() -> Path:
    """Where downloads are kept: LEHR_CACHE, or the user's cache folder."""
    given = os.environ.get("LEHR_CACHE")
    if given:
        return Path(given) / "data"
    from platformdirs import user_cache_path

    return user_cache_path("lehr") / "data"


def fetch(file: Published, homes: Sequence[str], *, folder: Path, pause_s: float = PAUSE_S) -> Path:
    """The path of `file` in `folder`, downloaded from the first of `homes` that has it if it is not there.

    Several processes may ask at once: one downloads, the others wait. A file appears under its name only
    whole and verified.

    Args:
        file: which.
        homes: URLs of folders, ending in "/".
        folder: of the cache; made if missing.
        pause_s: before the second try at a home; doubles with each.

    Raises:
        UserError: no home gave the file as published, or the cache cannot be written.
    """
    path = folder / file.name
    if path.exists():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f".{file.name}.lock"):
            if not path.exists():
                _place(path, _published(file, homes, folder, pause_s))
    except OSError as error:
        raise UserError(
            letter(f"cache {folder}", f"cannot be written: {error}", do="set LEHR_CACHE to one that can")
        ) from error
    return path


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Held by one process at a time; the system lets go of it when the process dies."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _place(path: Path, data: bytes) -> None:
    """Readers see no file or the whole one."""
    descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


def _published(file: Published, homes: Sequence[str], folder: Path, pause_s: float) -> bytes:
    failures = []
    for home in homes:
        url = urljoin(home, file.name)
        try:
            return _verified(_patiently(url, pause_s), file)
        except _Refused as failure:
            failures.append(f"\n    {url}: {failure}")
    raise UserError(
        letter(
            f"data, {file.name}",
            "is not in the cache and could not be downloaded:" + "".join(failures),
            accepted=f"the file with MD5 {file.md5}",
            do=f"connect this host (HTTPS_PROXY is honoured), or put the file in {folder}, or set data.root "
            "or LEHR_DATA to a folder that has it",
        )
    )


def _patiently(url: str, pause_s: float) -> bytes:
    """The body at `url`; what may be a hiccup is tried again."""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(pause_s * 2 ** (attempt - 1))
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            failure = f"HTTP {error.code} {error.reason}"
            if error.code < 500 and error.code != 429:
                break
        except (OSError, HTTPException) as error:
            failure = str(getattr(error, "reason", error)) or type(error).__name__
    raise _Refused(failure)


def _verified(data: bytes, file: Published) -> bytes:
    came = md5(data, usedforsecurity=False).hexdigest()
    if came == file.md5:
        return data
    page = " and look like a web page (a proxy's, or a login?)" if data.lstrip()[:1] == b"<" else ""
    raise _Refused(f"{len(data)} bytes came, with MD5 {came}{page}; they were thrown away")
