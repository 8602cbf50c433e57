"""From a URL to a store, and whether it can be written."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from lehr.errors import StorageError, UserError, letter
from lehr.store.folder import Folder
from lehr.store.objects import Objects
from lehr.store.store import Store

ACCEPTED = "a folder, file://, memory://, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix"
EXTRAS = {"gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure", "adl": "azure"}


def connect(url: str, options: Mapping[str, Any] | None = None) -> Store:
    """The store at `url`. Nothing is written and, as a rule, nothing asked of the network yet; see `probe`.

    Args:
        url: a URL of any scheme that fsspec knows, or a folder; a relative one is below the working folder.
        options: options of the filesystem (endpoint, credentials), their secrets resolved.

    Raises:
        UserError: no such scheme, a package is missing, or the options are not this filesystem's.
    """
    listings = {} if "://" not in url else {"use_listings_cache": False}  # other machines write here, too
    try:
        filesystem, root = fsspec.core.url_to_fs(os.path.expanduser(url), **listings | dict(options or {}))
    except ImportError as error:
        raise UserError(letter(url, str(error), do=_installation(url))) from None
    except ValueError as error:
        raise UserError(letter(url, str(error), accepted=ACCEPTED)) from None
    except TypeError as error:
        do = "see the options of its filesystem"
        raise UserError(letter(f"storage_options for {url}", str(error), do=do)) from None
    if isinstance(filesystem, LocalFileSystem):
        root = os.path.abspath(root)
        return Folder(filesystem, root, f"file://{root}" if "://" in url else root)
    return Objects(filesystem, root.rstrip("/"), url.rstrip("/") if not url.endswith("://") else url)


def _installation(url: str) -> str:
    scheme = url.split("://")[0].split("::")[0]
    if extra := EXTRAS.get(scheme):
        return f"pip install 'lehr[{extra}]'"
    return "pip install the package that it names"


def probe(store: Store) -> None:
    """Write, read and delete a small key, so that a run fails at its start and not at its first checkpoint.

    Raises:
        UserError: the store cannot be written.
    """
    key = f"lehr-probe-{uuid.uuid4().hex}"
    try:
        store.write(key, key.encode())
        if store.read(key) != key.encode():
            raise StorageError("what was read back is not what was written")
        store.delete(key)
    except StorageError as error:
        raise UserError(
            letter(store.url, f"cannot be written: {error}", accepted=ACCEPTED,
                   do="name another with --storage URL, or mend its address, credentials or permissions")
        ) from error  # fmt: skip
