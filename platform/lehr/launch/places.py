"""Folders of a job file that goes to a cluster: whether the cluster's hosts see them, too."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lehr.errors import UserError, letter
from lehr.launch.dashboard import Dashboard
from lehr.spec import needs

if TYPE_CHECKING:
    from lehr.spec import Spec

ACCEPTED = "an object store (s3://bucket/prefix, gs://, az://), or a whole path (/...) that all hosts share"


def settled(spec: Spec, cluster: Dashboard) -> list[str]:
    """Overrides that name the folders of a job wholly; [] when all are named so.

    A folder that is named from where the command stands is meant on this machine. The cluster sees it if it
    is this machine, and nothing else.

    Raises:
        UserError: a cluster elsewhere cannot see one of them; or a search has one to choose.
    """
    _refuse_choices(spec)
    open_ended = dict(_open_ended(spec))
    if open_ended:
        _refuse_elsewhere(open_ended, cluster)
    whole = {path: os.path.abspath(os.path.expanduser(url)) for path, url in open_ended.items()}
    # As they are: YAML does not put together the two halves that JSON's escapes have for some letters.
    return [f"{path}={json.dumps(url, ensure_ascii=False)}" for path, url in whole.items()]


def _open_ended(spec: Spec) -> Iterator[tuple[str, str]]:
    """Dotted paths of the spec and the folders there that are not named from the root."""
    run = spec.init_from.run if spec.init_from is not None else None
    for path, url in (("storage", spec.storage), ("data.root", spec.data.root), ("init_from.run", run)):
        if url and _is_open_ended(url):
            yield path, url
    if needs.scheme(spec.storage) == "memory":
        came = "what is in memory exists in one process only, and each worker is one of its own"
        raise UserError(letter("storage", came, accepted=ACCEPTED, do="give --storage URL"))


def _is_open_ended(url: str) -> bool:
    return "://" not in url and needs.scheme(url) == "file" and not os.path.isabs(url)


def _refuse_choices(spec: Spec) -> None:
    """A folder that a trial chooses is named by where its driver stands: nobody can make it whole here."""
    for path, given in (spec.search.space if spec.search is not None else {}).items():
        for key, url in (named for value in given.values for named in _folders(path, value)):
            if isinstance(url, str) and _is_open_ended(url):
                came = f"{key} may be {url}, which is named from where the command stands"
                raise UserError(letter(f"search.space.{path}", came, accepted=ACCEPTED, do="name it wholly"))


def _folders(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Keys that name folders, in a value that the key `path` may have."""
    for section, key in (("data", "root"), ("init_from", "run")):
        if path == f"{section}.{key}":
            yield path, value
        elif path == section and isinstance(value, Mapping):
            yield f"{section}.{key}", value.get(key)


def _refuse_elsewhere(folders: dict[str, str], cluster: Dashboard) -> None:
    others = [] if cluster.address.loopback else [cluster.address.parts.hostname or ""]
    # Behind an address of this machine may be a tunnel.
    others = others or sorted(set(_hosts(cluster)) - {socket.gethostname()})
    if not others:
        return
    [(path, url), *_] = folders.items()
    came = f"{url} is a folder of this machine, and the cluster has other hosts ({', '.join(others[:3])})"
    do = "give --storage URL" if path == "storage" else f"give --set {path}=URL"
    raise UserError(letter(path, came, accepted=ACCEPTED, do=do))


def _hosts(cluster: Dashboard) -> list[str]:
    """Names of the hosts that are alive."""
    answer = cluster.json("GET", "/nodes?view=hostNameList")
    return [str(name) for name in (answer.get("data") or {}).get("hostNameList") or []]
