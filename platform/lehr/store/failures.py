"""What an error of a filesystem means, for any of the cloud libraries, none of which is imported here.

Their errors have little in common. S3's carry the answer (`response["Error"]["Code"]`), s3fs wraps them in
OSErrors whose `__cause__` they are; Google's and Azure's carry an HTTP status; a name that does not resolve
or a connection refused is of a class with a name of its own.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from lehr.errors import KeyMissing, StorageDenied, StorageError


class Kind(Enum):
    """Why a store did not do it, as far as one can tell."""

    MISSING = "no such key"
    NO_BUCKET = "there is no such bucket"
    CREDENTIALS = "the credentials are wrong, expired or missing"
    PERMISSION = "there is no permission"
    UNREACHABLE = "there is no answer"
    FULL = "it is full"
    OTHER = "something else"


_BY_CODE = {
    Kind.NO_BUCKET: {"NoSuchBucket", "ContainerNotFound"},
    Kind.CREDENTIALS: {
        "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "InvalidSecurity",
        "TokenRefreshRequired", "RequestTimeTooSkewed", "AuthenticationFailed",
    },
    Kind.PERMISSION: {
        "AccessDenied", "Forbidden", "403", "401", "AllAccessDisabled", "AccountProblem", "NotSignedUp",
        "InsufficientAccountPermissions", "AuthorizationFailure", "AuthorizationPermissionMismatch",
    },
    Kind.FULL: {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507"},
    Kind.MISSING: {"NoSuchKey", "404", "NotFound", "BlobNotFound"},
}  # fmt: skip
_BY_CLASS = {
    Kind.CREDENTIALS: {
        "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "NoAuthTokenError",
        "TokenRetrievalError", "SSOTokenLoadError", "UnauthorizedSSOTokenError", "ProfileNotFound",
        "DefaultCredentialsError", "RefreshError", "ClientAuthenticationError", "CredentialUnavailableError",
    },
    Kind.UNREACHABLE: {
        "EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "AioReadTimeoutError",
        "ConnectionClosedError", "ProxyConnectionError", "SSLError", "FSTimeoutError", "ConnectionError",
        "ClientConnectorError", "ClientConnectorDNSError", "ServiceRequestError",
    },
}  # fmt: skip
_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)
DENIED = (Kind.NO_BUCKET, Kind.CREDENTIALS, Kind.PERMISSION)


def kind(error: BaseException) -> Kind:
    """What it means; of several in a chain of causes, the innermost that is known."""
    kinds = [_kind(one) for one in _chain(error)]
    return next((found for found in reversed(kinds) if found is not Kind.OTHER), Kind.OTHER)


def code(error: BaseException) -> str:
    """What the store called it, as `NoSuchBucket`; "" where it answered nothing."""
    codes = [_code(one) for one in _chain(error)]
    return next((found for found in reversed(codes) if found), "")


def failure(where: str, verb: str, error: BaseException, options: Mapping[str, Any]) -> StorageError:
    """The error to raise instead, which says what could not be done and has no secrets in it.

    Args:
        where: URL and key.
        verb: what was tried, as "write".
        error: what the filesystem raised.
        options: the filesystem's; no value of them is said.
    """
    found = kind(error)
    if found is Kind.MISSING:
        return KeyMissing(f"{where}: no such key")
    words = (code(error) and getattr(error, "strerror", "")) or str(error)  # s3fs's error numbers are made up
    words = "" if re.fullmatch(r"(\[Errno \d+\] )?None", words) else f": {words}"  # Ceph says a code only
    said = f"{where}: could not {verb} it: {_name(error)}{without_secrets(words, options)}"
    if found is Kind.FULL:
        said = f"{said} ({found.value})"
    return StorageDenied(said) if found in DENIED else StorageError(said)


_PLAIN = re.compile(r"endpoint|region|url$|project|profile|version|mode")  # options whose values may be said


def without_secrets(text: str, options: Mapping[str, Any]) -> str:
    """`text` without what stands in `options`, and without passwords in URLs."""
    for value in sorted(_values(options), key=len, reverse=True):
        text = text.replace(value, "***")
    return re.sub(r"(\w://)[^/@\s]+@", r"\1***@", text)


def _values(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _values(value)
        elif isinstance(value, str) and len(value) > 3 and not _PLAIN.search(name):
            yield value


def _name(error: BaseException) -> str:
    return code(error) or type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _code(error: BaseException) -> str:
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        return str(response.get("Error", {}).get("Code", ""))
    for name in ("error_code", "code", "status_code", "status"):  # Azure's, Google's, aiohttp's
        value = getattr(error, name, None)
        if isinstance(value, str | int):
            return str(value)
    return ""


def _is_wordless(error: BaseException) -> bool:
    response = getattr(error, "response", None)
    return isinstance(response, Mapping) and not response.get("Error", {}).get("Message")


def _kind(error: BaseException) -> Kind:
    for table, names in ((_BY_CODE, {_code(error)}), (_BY_CLASS, {c.__name__ for c in type(error).__mro__})):
        for found, known in table.items():
            if known & names:
                return found
    if _is_wordless(error) and _code(error) == "InvalidArgument":
        return Kind.CREDENTIALS  # what Ceph says of an access key that cannot be one
    if "bucket does not exist" in str(error):  # Google's
        return Kind.NO_BUCKET
    return _kind_of_builtin(error) if not _code(error) else Kind.OTHER


def _kind_of_builtin(error: BaseException) -> Kind:
    number = getattr(error, "errno", None)
    if number in _FULL:
        return Kind.FULL
    if isinstance(error, PermissionError) or number in _REFUSED:
        return Kind.PERMISSION
    if isinstance(error, ConnectionError | TimeoutError):
        return Kind.UNREACHABLE
    missing = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
    if missing and not (error.__cause__ and _code(error.__cause__)):  # else it is the answer that counts
        return Kind.MISSING
    return Kind.OTHER
