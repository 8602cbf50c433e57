"""What pods see of a job: secrets by reference, and places that must not be folders of one machine."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lehr.errors import UserError, letter
from lehr.spec import Spec, needs, secrets
from lehr.spec.place import Problem, refuse

SECRET = "lehr-secrets"  # the Secret that is asked when no other is named
VOLUME_PATH = "/mnt/lehr"
_NAME = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
_KEY = re.compile(r"[-._A-Za-z0-9]{1,253}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TAKEN = ("RAY_", "KUBERAY_", "FQ_RAY_")
_ACCEPTED = "NAME=SECRET/KEY; NAME is an environment variable, or the path of a file"

Document = dict[str, Any]


@dataclass(frozen=True)
class Volume:
    """A PersistentVolumeClaim that all pods mount at `path`."""

    claim: str
    path: str = VOLUME_PATH


@dataclass(frozen=True)
class Mounted:
    """Volumes of a pod and their mounts in its container."""

    volumes: list[Document] = field(default_factory=list)
    mounts: list[Document] = field(default_factory=list)

    def __add__(self, other: Mounted) -> Mounted:
        return Mounted([*self.volumes, *other.volumes], [*self.mounts, *other.mounts])


def volume(text: str) -> Volume:
    """The volume in `CLAIM` or `CLAIM:PATH`.

    Raises:
        UserError: it is neither.
    """
    claim, _, path = text.partition(":")
    is_folder = path.startswith("/") and posixpath.normpath(path).strip("/") != ""
    if re.fullmatch(_NAME, claim) is None or (path and not is_folder):
        came = f"{secrets.show(text)} is no claim"
        raise UserError(letter("--volume-claim", came, accepted="CLAIM or CLAIM:/PATH"))
    return Volume(claim, posixpath.normpath(path) if path else VOLUME_PATH)


def chosen(texts: list[str]) -> dict[str, tuple[str, str]]:
    """Secret and key by variable or path, from `--secret` texts.

    Raises:
        UserError: one of them says something else.
    """
    found = {}
    for text in texts:
        name, _, place = text.rpartition("=")
        secret, _, key = place.partition("/")
        fits = re.fullmatch(_NAME, secret) and _KEY.fullmatch(key)
        if not fits or not (_VARIABLE.fullmatch(name) or name.startswith("/")):
            raise UserError(letter("--secret", f"{secrets.show(text)} is no reference", accepted=_ACCEPTED))
        found[name] = (secret, key)
    return found


def mounted(claim: Volume | None) -> Mounted:
    """The volume that all pods share, if there is one."""
    if claim is None:
        return Mounted()
    source = {"name": "shared", "persistentVolumeClaim": {"claimName": claim.claim}}
    return Mounted([source], [{"name": "shared", "mountPath": claim.path}])


def placed(spec: Spec, claim: Volume | None) -> Spec:
    """The spec with every place that a pod can reach: a relative folder lies in the shared volume.

    Raises:
        SpecError: a place is a folder of this machine, or in memory.
    """
    places = {"storage": spec.storage, "data.root": getattr(spec.data, "root", None)}
    places["init_from.run"] = spec.init_from.run if spec.init_from is not None else None
    moved, problems = {}, []
    for path, place in places.items():
        if place is None or needs.scheme(place) not in ("file", "memory", ""):
            continue
        lies = _in_volume(place, claim)
        if lies is None:
            problems.append(_unreachable(spec, path, place, claim))
        else:
            moved[path] = lies
    refuse(problems)
    return _moved(spec, moved)


def _in_volume(place: str, claim: Volume | None) -> str | None:
    if claim is None or place.startswith("memory:"):
        return None
    folder = re.sub(r"^(?:file|local)://", "", place)
    folder = posixpath.normpath(posixpath.join(claim.path, folder))
    return folder if folder == claim.path or folder.startswith(f"{claim.path.rstrip('/')}/") else None


def _unreachable(spec: Spec, path: str, place: str, claim: Volume | None) -> Problem:
    if place.startswith("memory:"):
        came = f"{place} exists in one process only"
    elif claim is None:
        came = f"{place} is a folder of one machine, and pods share no disk"
    else:
        came = f"{place} lies outside the volume that pods share ({claim.path})"
    do = f"--set {path}=s3://bucket/prefix, or mount a volume in all pods: --volume-claim CLAIM[:PATH]"
    return spec.problem(path, came, accepted="an object store (s3://, gs://, az://)", do=do)


def _moved(spec: Spec, places: Mapping[str, str]) -> Spec:
    for path, place in places.items():
        section, _, key = path.rpartition(".")
        if section:
            inner = getattr(spec, section).model_copy(update={key: place})
            spec = spec.model_copy(update={section: inner})
        else:
            spec = spec.model_copy(update={key: place})
    return spec


def references(spec: Spec) -> Iterator[str]:
    """Every reference to a secret that the run will resolve, each once."""
    places: list[Any] = [spec.storage_options, spec.data.storage_options]
    if spec.init_from is not None:
        places.append(spec.init_from.storage_options)
    wandb = spec.tracking.wandb
    if wandb is not None and wandb.mode in ("auto", "online"):
        places.append(wandb.api_key)
    yield from dict.fromkeys(reference for _, reference in secrets.references(places))


def environment(spec: Spec, given: Mapping[str, tuple[str, str]]) -> list[Document]:
    """Variables that come from Secrets: those the spec names, and those that were asked for besides.

    Raises:
        UserError: a variable is one that Ray or KubeRay sets.
    """
    named = [one.partition(":")[2] for one in references(spec) if one.startswith("env:")]
    named += [name for name in given if not name.startswith("/")]
    return [_variable(name, *given.get(name, (SECRET, name))) for name in dict.fromkeys(named)]


def _variable(name: str, secret: str, key: str) -> Document:
    if name.startswith(_TAKEN):
        came = "this variable is set by Ray or KubeRay themselves"
        raise UserError(letter(f"env:{name}", came, do="give it another name in the job file"))
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def files(spec: Spec, given: Mapping[str, tuple[str, str]]) -> Mounted:
    """Files that come from Secrets: those the spec names, and those that were asked for besides.

    Raises:
        UserError: a path is not one that every pod has.
    """
    named = [one.partition(":")[2] for one in references(spec) if one.startswith("file:")]
    named += [name for name in given if name.startswith("/")]
    found = {path: given.get(path) or _of_file(path) for path in dict.fromkeys(named)}
    owners = list(dict.fromkeys(secret for secret, _ in found.values()))
    # One file by subPath: a folder would hide what else is in its place, such as the service account's token.
    mounts = [
        {"name": f"secret-{owners.index(secret)}", "mountPath": path, "subPath": key, "readOnly": True}
        for path, (secret, key) in found.items()
    ]
    sources = [
        {"name": f"secret-{i}", "secret": {"secretName": secret, "defaultMode": 0o440}}
        for i, secret in enumerate(owners)
    ]
    return Mounted(sources, mounts)


def _of_file(path: str) -> tuple[str, str]:
    key = posixpath.basename(path)
    if not path.startswith("/") or _KEY.fullmatch(key) is None or posixpath.normpath(path) != path:
        came = "a pod has no such place: its path must be absolute and plain"
        raise UserError(letter(f"file:{path}", came, accepted="file:/run/secrets/NAME, or env:NAME"))
    return SECRET, key
