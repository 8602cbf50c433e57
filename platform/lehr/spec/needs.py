"""What a job needs of this machine before it starts: packages for its stores, and secrets."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from lehr.errors import UserError
from lehr.spec import secrets
from lehr.spec.place import Path, Problem

if TYPE_CHECKING:
    from lehr.spec.job import Spec

_ALIKE = {"": "file", "local": "file", "s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az"}
# By scheme: the package that fsspec takes it from, and lehr's extra that brings it.
_PACKAGES = {"s3": ("s3fs", ""), "gs": ("gcsfs", "gcs"), "az": ("adlfs", "azure"), "adl": ("adlfs", "azure")}


def scheme(url: Any) -> str | None:
    """What kind of store a URL or a folder names, one word for each kind; None when it is no text."""
    if not isinstance(url, str):
        return None
    name = url.partition("://")[0] if "://" in url else ""
    return _ALIKE.get(name, name)


def packages(spec: Spec) -> Iterator[Problem]:
    """The places whose stores need a package that is not installed here. Nothing is imported."""
    for path, url in _urls(spec):
        package, extra = _PACKAGES.get(scheme(url) or "", ("", ""))
        if package and importlib.util.find_spec(package) is None:
            came = f"{url.partition('://')[0]}:// needs {package}, which is not installed here"
            wanted = f"'lehr[{extra}]'" if extra else package
            yield spec.problem(path, came, do=f"pip install {wanted}")


def references(spec: Spec, *, workers_are_here: bool) -> Iterator[Problem]:
    """The references that name nothing in this process. What they name is read and dropped.

    Args:
        spec: the job.
        workers_are_here: whether the workers share this machine and environment. If not, only what this
            process needs itself can be told.
    """
    told = list(secrets.references(spec.storage_options, ("storage_options",)))
    if workers_are_here:
        told += [*_of_workers(spec)]
    for path, reference in told:
        try:
            secrets.resolve(reference)
        except UserError as error:
            came, _, rest = str(error).partition("\n  do: ")
            yield spec.problem(".".join(map(str, path)), came, do=rest)


def _of_workers(spec: Spec) -> Iterator[tuple[Path, str]]:
    yield from secrets.references(spec.data.storage_options, ("data", "storage_options"))
    if spec.init_from is not None:
        yield from secrets.references(spec.init_from.storage_options, ("init_from", "storage_options"))
    wandb = spec.tracking.wandb
    if wandb is not None and wandb.mode in ("auto", "online"):
        yield from secrets.references(wandb.api_key, ("tracking", "wandb", "api_key"))


def _urls(spec: Spec) -> Iterator[tuple[str, str]]:
    yield "storage", spec.storage
    if spec.data.root:
        yield "data.root", spec.data.root
    if spec.init_from is not None:
        yield "init_from.run", spec.init_from.run
