"""Secrets: a job file names where one is kept, never the secret itself.

References are `env:NAME` and `file:PATH`; `resolve` reads one where it is needed, at the last moment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path as File
from typing import Any

from lehr.errors import UserError, letter
from lehr.spec.place import Path, Problem

REFERENCE = r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:/?[^/].*)$"  # file:///x is a URL
ACCEPTED = "env:NAME (an environment variable) or file:PATH (a file that holds it)"

# Keys whose value is a secret by their name: api_key, aws-secret, accessToken, PASSWORD ...
_KEY = re.compile(
    r"(?:^|[_\-.])(?:api|access|account|private|secret)?(?:key|secret|token|passwd|password|credential)s?$"
    r"|(?:Key|Secret|Token|Password)$"
    r"|(?:^|[_\-.])connection_?string$|^(?:proxy-)?authorization$|^(?:set-)?cookie$"
)
_NUMERIC = re.compile(r"(?:secret|passwd|password|pin)s?$", re.IGNORECASE)
# Plain words that gcsfs and s3fs take under `token` and `key`.
_HARMLESS = frozenset({"", "anon", "cloud", "google_default", "browser", "cache", "none", "default"})
_LITERALS = (
    ("an AWS access key id", re.compile(r"\b(?:AKIA|ASIA|AGPA|AIDA|AROA)[A-Z0-9]{16}\b")),
    ("a W&B API key", re.compile(r"^(?:local-)?[0-9a-f]{40}$|\bwandb_v\d+_\w{20,}")),
    ("an AWS secret key", re.compile(r"^(?=.*[a-z])(?=.*[A-Z])(?=.*\d)[A-Za-z0-9/+]{40}$")),
    ("a private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")),
    ("a GitHub token", re.compile(r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,})")),
    ("a Hugging Face token", re.compile(r"\bhf_[A-Za-z0-9]{20,}")),
    ("a Google API key", re.compile(r"\bAIza[0-9A-Za-z_\-]{30,}")),
    ("a Slack token", re.compile(r"\bxox[abprs]-[0-9A-Za-z\-]{10,}")),
    ("an API key", re.compile(r"\bsk-[A-Za-z0-9_\-]{20,}")),
    ("a signed token (JWT)", re.compile(r"\beyJ[\w\-]{8,}\.[\w\-]{8,}\.[\w\-]*")),
    ("a URL with a password in it", re.compile(r"://[^/\s:@]*:(?!\d+(?:/|$))[^\s@]+@")),
    (
        "a URL with a signature in it",
        re.compile(
            r"[?&](?:sig|signature|x-amz-signature|x-amz-security-token|access_key|secret|token)=[^&\s]", re.I
        ),
    ),
)


def is_reference(value: object) -> bool:
    """Whether `value` says where a secret is kept."""
    return isinstance(value, str) and re.match(REFERENCE, value) is not None


def looks_like(value: object) -> str | None:
    """What kind of secret the text looks like, or None."""
    if not isinstance(value, str):
        return None
    return next((what for what, pattern in _LITERALS if pattern.search(value)), None)


def show(value: object, *, length: int = 60) -> str:
    """A value as it may be printed: shortened, and never a secret."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if what := looks_like(value):
        return f"text that looks like {what}"
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    words = repr(value)
    return words if len(words) <= length else f"{words[: length - 4]}...'"


def named_secret(key: object, value: object) -> bool:
    """Whether the key's name says that its value is secret, and the value is more than a reference to one."""
    if not isinstance(key, str):
        return False
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _NUMERIC.search(key) is not None
    if not isinstance(value, str) or value in _HARMLESS or is_reference(value):
        return False
    return _KEY.search(key) is not None or _KEY.search(key.lower()) is not None


def problems(value: Any, path: Path = ()) -> Iterator[Problem]:
    """Every literal under `value` that looks like a secret. What it says never holds the secret."""
    do = "keep the secret out of the file, write where it is kept, and replace one that was already shared"
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if what := looks_like(key):
                yield Problem(path, f"a key that looks like {what}", do="remove it, and replace that secret")
            else:
                yield from problems(inner, (*path, key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from problems(inner, (*path, index))
    elif what := looks_like(value):
        yield Problem(path, f"this looks like {what}, typed in", ACCEPTED, do)
    elif path and named_secret(path[-1], value):
        yield Problem(path, "a secret typed in", ACCEPTED, do)


def references(value: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every reference under `value`, with its place."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from references(inner, (*path, key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from references(inner, (*path, index))
    elif is_reference(value):
        yield path, value


def resolve(reference: str) -> str:
    """The secret that a reference names. Call it where the secret is used, and keep the answer nowhere.

    Raises:
        UserError: it is no reference, or names nothing.
    """
    where, _, name = reference.partition(":")
    if not is_reference(reference):
        raise UserError(letter("secret", "this is not a reference to a secret", accepted=ACCEPTED))
    if where == "env":
        if not (value := os.environ.get(name, "")):
            came = "the environment variable is not set in this process"
            raise UserError(letter(reference, came, do=f"set {name} where the workers run"))
        return value
    do = "put the secret there, or correct the path"
    try:
        secret = File(name).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        came = f"the file cannot be read: {error.__class__.__name__}"
        raise UserError(letter(reference, came, do=do)) from None
    if not secret:
        raise UserError(letter(reference, "the file is empty", do=do))
    return secret


def resolved(value: Any) -> Any:
    """A copy of plain values in which every reference is replaced by its secret."""
    if isinstance(value, Mapping):
        return {key: resolved(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [resolved(inner) for inner in value]
    return resolve(value) if is_reference(value) else value
