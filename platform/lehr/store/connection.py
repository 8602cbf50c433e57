"""From a URL to a store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from lehr.errors import UserError, letter
from lehr.store import s3
from lehr.store.failures import without_secrets
from lehr.store.folder import Folder
from lehr.store.objects import Objects
from lehr.store.store import Store

ACCEPTED = "a folder, file://, memory://, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix"
EXTRAS = {"gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure", "adl": "azure"}
S3_SCHEMES = ("s3", "s3a")


def connect(url: str, options: Mapping[str, Any] | None = None) -> Store:
    """The store at `url`. Nothing is written and, as a rule, nothing asked of the network yet; see `probe`.

    A process has one client for a URL's scheme and options, however often it connects.

    Args:
        url: a URL of any scheme that fsspec knows, or a folder; a relative one is below the working folder.
        options: options of the filesystem (endpoint, credentials), their secrets resolved.

    Raises:
        UserError: no such scheme, a package is missing, or the options are not this filesystem's.
    """
    given = dict(options or {})
    try:
        filesystem, root = fsspec.core.url_to_fs(os.path.expanduser(url), **_completed(url, given))
    except ImportError as error:
        raise UserError(letter(url, str(error), do=_installation(url))) from None
    except ValueError as error:
        raise UserError(letter(url, without_secrets(str(error), given), accepted=ACCEPTED)) from None
    except (TypeError, KeyError, AttributeError) as error:
        said = f"{without_secrets(str(error), given)} (given: {', '.join(sorted(given)) or 'none'})"
        do = "see the options of its filesystem"
        raise UserError(letter(f"storage_options for {url}", said, do=do)) from None
    if isinstance(filesystem, LocalFileSystem):
        root = os.path.abspath(root)
        return Folder(filesystem, root, f"file://{root}" if "://" in url else root)
    kind = s3.S3 if _scheme(url) in S3_SCHEMES else Objects
    return kind(filesystem, root.rstrip("/"), url.rstrip("/") if not url.endswith("://") else url)


def _completed(url: str, given: dict[str, Any]) -> dict[str, Any]:
    if "://" not in url:
        return given
    ours = s3.options(given) if _scheme(url) in S3_SCHEMES else given
    return {**ours, "use_listings_cache": False}  # other machines write here, too


def _scheme(url: str) -> str:
    return url.split("://")[0]


def _installation(url: str) -> str:
    if extra := EXTRAS.get(_scheme(url).split("::")[0]):
        return f"pip install 'lehr[{extra}]'"
    return "pip install the package that it names"
