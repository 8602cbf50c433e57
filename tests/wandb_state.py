"""What W&B's server answers, from what it was told: see `wandb_server`."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from wandb_graphql import execute
from wandb_runs import ENTITY, Answer, Artifact, Key, Request, Run


class State:
    """Everything that the server knows: it follows from the accepted requests alone, in their order.

    Not safe for threads: the server holds a lock around it.
    """

    def __init__(self) -> None:
        self.runs: dict[Key, Run] = {}
        self.unknown: set[str] = set()
        self.artifacts: dict[str, Artifact] = {}
        self._now = 0.0

    def answer(self, request: Request, url: str) -> Answer:
        """What W&B says to a request; `url` is this server's own."""
        self._now = request.time
        path = urlsplit(request.path).path
        if path == "/graphql":
            asked = request.json()
            data = execute(asked["query"], asked.get("variables") or {}, self._root(url), self.unknown)
            return Answer(200, json.dumps({"data": data}).encode())
        if found := re.fullmatch(r"/files/([^/]+)/([^/]+)/([^/]+)/file_stream", path):
            entity, project, name = (unquote(part) for part in found.groups())
            return self._stream((entity, project, name), request.json())
        if path.startswith("/storage/"):
            return self._storage(request, [unquote(part) for part in path.split("/")[2:]])
        return Answer(200 if path.startswith("/sdk/") else 404)

    # What a run streams.

    def _stream(self, key: Key, sent: dict[str, Any]) -> Answer:
        if (run := self.runs.get(key)) is None:
            return Answer(404, b'{"error":"run not found"}')
        for name, chunk in (sent.get("files") or {}).items():
            lines = dict(enumerate(chunk["content"], chunk["offset"]))
            if name == "wandb-summary.json":
                run.summary = json.loads(chunk["content"][-1])
            run.streams.setdefault(name, {}).update(lines)
        if sent.get("complete"):
            run.exit_code = sent.get("exitcode") or 0
            run.state = "failed" if run.exit_code else "finished"
        return Answer(200, b'{"exitcode":null,"limits":{"hpm":0,"name":"default","rate_limit":"200/s"}}')

    # Files.

    def _storage(self, request: Request, parts: list[str]) -> Answer:
        files = self._folder(parts)
        name = parts[-1]
        if request.method == "PUT":
            files[name] = request.body
            return Answer(200, b"", {"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})
        return Answer(200, files[name]) if name in files else Answer(404)

    def _folder(self, parts: list[str]) -> dict[str, bytes]:
        if parts[0] == "run":
            return self.runs[(parts[1], parts[2], parts[3])].files
        return self.artifacts[parts[1]].files

    # GraphQL: fields of queries and mutations.

    def _root(self, url: str) -> dict[str, Any]:
        project = lambda name=None, entityName=None: self._project(entityName or ENTITY, name, url)  # noqa: E731
        return {
            "viewer": _viewer(),
            "serverInfo": {"features": [], "cliVersionInfo": {}, "latestLocalVersionInfo": None},
            "entity": lambda name=None: {"name": name, "xxhashDigestsEnabled": False, "organization": None},
            "project": project,
            "model": project,
            "upsertBucket": lambda input: self._upsert(url, **input),
            "createRunFiles": lambda input: self._run_files(url, **input),
            "markRunFilesUploaded": lambda input: {"success": True},
            "createArtifact": lambda input: self._create_artifact(url, **input),
            "createArtifactManifest": lambda input: self._manifest(url, **input),
            "updateArtifactManifest": lambda input: self._manifest(url, input["artifactManifestID"]),
            "createArtifactFiles": lambda input: self._artifact_files(url, input["artifactFiles"]),
            "commitArtifact": lambda input: self._commit(input["artifactID"], url),
            "useArtifact": lambda input: self._use(url, **input),
            "artifact": lambda id: self._artifact(self.artifacts[id], url) if id in self.artifacts else None,
            "clientIDMapping": lambda clientID: None,
        }

    def _project(self, entity: str, project: str, url: str) -> dict[str, Any] | None:
        runs = [run for run in self.runs.values() if (run.entity, run.project) == (entity, project)]
        if not runs:
            return None
        pages = lambda **_: _connection([self._run(run, url) for run in runs])  # noqa: E731
        return _project(entity, project) | {
            "bucket": lambda name, missingOk=False: self._find(entity, project, name, url),
            "run": lambda name: self._find(entity, project, name, url),
            "runs": pages,
            "runCount": lambda **_: len(runs),
            "readOnly": False,
            "artifactType": lambda name: {
                "name": name,
                "artifactCollection": lambda name: {
                    "__typename": "ArtifactSequence",
                    "digestAlgorithm": None,
                },
            },
            "artifactCollectionMembership": lambda name: self._membership(entity, project, name, url),
            "artifact": lambda name: self._membership(entity, project, name, url),
        }

    def _find(self, entity: str, project: str, name: str, url: str) -> dict[str, Any] | None:
        run = self.runs.get((entity, project, name))
        return None if run is None else self._run(run, url)

    def _run(self, run: Run, url: str) -> dict[str, Any]:
        rows, events = run.raw_history, run.lines("wandb-events.jsonl")
        history = [json.dumps(_words(row)) for row in rows]
        sent = [self._artifact(artifact, url) for artifact in run.artifacts if artifact.version is not None]
        used = [self._artifact(artifact, url) for artifact in run.used]
        return {
            "id": _run_id(run), "name": run.id, "displayName": run.name or run.id, "description": run.notes,
            "notes": run.notes, "tags": run.tags, "group": run.group, "groupName": run.group,
            "jobType": run.job_type, "state": run.state, "sweepName": None, "commit": None, "readOnly": False,
            "createdAt": _stamp(run.created), "heartbeatAt": _stamp(self._now), "projectId": "1",
            "config": json.dumps(run.raw_config), "summaryMetrics": json.dumps(_words(run.summary)),
            "systemMetrics": "{}",
            "wandbConfig": lambda keys: json.dumps(
                {k: v for k, v in run.raw_config.get("_wandb", {}).get("value", {}).items() if k in keys}
            ),
            "project": _project(run.entity, run.project),
            "user": {"name": ENTITY, "username": ENTITY},
            "historyLineCount": len(history), "eventsLineCount": len(events),
            "logLineCount": len(run.lines("output.log")),
            "historyTail": json.dumps(history[-1:]), "eventsTail": json.dumps(events[-1:]),
            "historyKeys": {"lastStep": run.last_step, "sets": [], "keys": _keys(run)},
            "history": lambda minStep=0, maxStep=2**62, samples=500: [
                line for line, row in zip(history, rows, strict=True) if minStep <= row["_step"] < maxStep
            ],
            "events": lambda samples=500: events,
            "sampledHistory": lambda specs: [_words(_sample(rows, json.loads(spec))) for spec in specs],
            "parquetHistory": lambda liveKeys: {
                "parquetUrls": [], "liveData": _words(rows)
            },
            "fileCount": len(run.files),
            "files": lambda names=None, **_: _connection(
                [self._file(run, name, url) for name in run.files if not names or name in names]
            ),
            "outputArtifacts": lambda **_: _connection(sent),
            "inputArtifacts": lambda **_: _connection(used),
            "stopped": False,
        }  # fmt: skip

    def _upsert(
        self, url: str, id: str | None = None, name: str | None = None, modelName: str | None = None,
        entityName: str | None = None, **given: Any,
    ) -> dict[str, Any]:  # fmt: skip
        key = _from_id(id) if id else (entityName or ENTITY, modelName or "uncategorized", str(name))
        inserted = key not in self.runs
        run = self.runs.setdefault(key, Run(*key, created=self._now))
        names = {"displayName": "name", "groupName": "group", "jobType": "job_type"}
        for sent, kept in (names | {"notes": "notes", "tags": "tags"}).items():
            if given.get(sent) is not None:
                setattr(run, kept, given[sent])
        if given.get("config"):
            run.raw_config = json.loads(given["config"])
        if given.get("summaryMetrics"):
            run.summary = json.loads(given["summaryMetrics"])
        if not id:
            run.state, run.exit_code = "running", None
        return {"bucket": self._run(run, url), "inserted": inserted}

    def _file(self, run: Run, name: str, url: str) -> dict[str, Any]:
        place = f"{url}/storage/run/{run.entity}/{run.project}/{run.id}/{quote(name, safe='')}"
        data = run.files.get(name, b"")
        return {
            "id": f"{run.id}:{name}", "name": name, "url": lambda upload=False: place, "directUrl": place,
            "uploadUrl": place, "sizeBytes": len(data), "mimetype": "", "updatedAt": _stamp(self._now),
            "md5": base64.b64encode(hashlib.md5(data).digest()).decode(),
        }  # fmt: skip

    def _run_files(
        self, url: str, entityName: str, projectName: str, runName: str, files: list[str]
    ) -> dict[str, Any]:
        run = self.runs[(entityName, projectName, runName)]
        return {
            "runID": _run_id(run),
            "uploadHeaders": [],
            "files": [self._file(run, name, url) for name in files],
        }

    # Artifacts.

    def _versions(self, entity: str, project: str, collection: str) -> list[Artifact]:
        found = [a for a in self.artifacts.values() if a.run[:2] == (entity, project)]
        return [a for a in found if a.collection == collection and a.version is not None]

    def _create_artifact(self, url: str, **given: Any) -> dict[str, Any]:
        key = (given["entityName"], given["projectName"], given["runName"])
        collection = (given.get("artifactCollectionNames") or [given.get("artifactCollectionName")])[0]
        aliases = [each["alias"] for each in given.get("aliases") or []]
        for known in self._versions(*key[:2], collection):
            if known.digest == given["digest"] and given.get("enableDigestDeduplication"):
                self._move_aliases(known, aliases)
                return {"artifact": self._artifact(known, url)}
        artifact = Artifact(
            _encode(f"Artifact:{len(self.artifacts) + 1}"), key, given["artifactTypeName"], collection,
            given["digest"], self._now, given.get("description"), json.loads(given.get("metadata") or "{}"),
            aliases,
        )  # fmt: skip
        self.artifacts[artifact.id] = artifact
        self.runs[key].artifacts.append(artifact)
        return {"artifact": self._artifact(artifact, url)}

    def _manifest(self, url: str, artifactID: str, **_: Any) -> dict[str, Any]:
        place = f"{url}/storage/artifact/{quote(artifactID, safe='')}/wandb_manifest.json"
        file = {"id": artifactID, "uploadUrl": place, "uploadHeaders": [], "directUrl": place}
        return {"artifactManifest": {"id": artifactID, "file": file}}

    def _artifact_files(self, url: str, files: list[dict[str, Any]]) -> dict[str, Any]:
        nodes = []
        for file in files:
            place = f"artifact/{quote(file['artifactID'], safe='')}/{quote(file['name'], safe='')}"
            nodes.append({
                "storagePath": place, "uploadUrl": f"{url}/storage/{place}", "uploadHeaders": [],
                "uploadMultipartUrls": None, "artifact": {"id": file["artifactID"]},
            })  # fmt: skip
        return {"files": _connection(nodes)}

    def _commit(self, id: str, url: str) -> dict[str, Any]:
        artifact = self.artifacts[id]
        if artifact.version is None:
            artifact.manifest = json.loads(artifact.files.get("wandb_manifest.json", b"{}"))
            artifact.version = len(self._versions(*artifact.run[:2], artifact.collection))
            self._move_aliases(artifact, [*artifact.aliases, "latest"])
        return {"artifact": self._artifact(artifact, url)}

    def _move_aliases(self, artifact: Artifact, aliases: list[str]) -> None:
        """An alias is on one version of a collection only."""
        for other in self._versions(*artifact.run[:2], artifact.collection):
            other.aliases = [alias for alias in other.aliases if alias not in aliases or other is artifact]
        artifact.aliases = list(dict.fromkeys([*artifact.aliases, *aliases]))

    def _use(self, url: str, artifactID: str, **given: Any) -> dict[str, Any]:
        artifact = self.artifacts[artifactID]
        run = self.runs[(given["entityName"], given["projectName"], given["runName"])]
        run.used += [artifact] if artifact not in run.used else []
        return {"artifact": self._artifact(artifact, url)}

    def _named(self, entity: str, project: str, name: str) -> Artifact | None:
        """A version by `collection:alias` or `collection:v0`."""
        collection, _, alias = name.partition(":")
        versions = self._versions(entity, project, collection)
        alias = alias or "latest"
        return next((a for a in versions if alias in (*a.aliases, f"v{a.version}")), None)

    def _membership(self, entity: str, project: str, name: str, url: str) -> dict[str, Any] | None:
        if (artifact := self._named(entity, project, name)) is None:
            return None
        found = self._artifact(artifact, url)
        return found | {"__typename": "ArtifactCollectionMembership", "artifact": found}

    def _artifact(self, artifact: Artifact, url: str) -> dict[str, Any]:
        versions = self._versions(*artifact.run[:2], artifact.collection)
        latest = {"id": versions[-1].id, "versionIndex": versions[-1].version} if versions else None
        collection = {
            "__typename": "ArtifactSequence", "id": _encode(f"ArtifactCollection:{artifact.collection}"),
            "name": artifact.collection, "project": _project(*artifact.run[:2]),
            "latestArtifact": latest,
        }  # fmt: skip
        entries = artifact.manifest.get("contents", {})
        return {
            "__typename": "Artifact", "id": artifact.id, "digest": artifact.digest, "digestAlgorithm": None,
            "state": "PENDING" if artifact.version is None else "COMMITTED", "versionIndex": artifact.version,
            "artifactSequence": collection, "artifactCollection": collection,
            "artifactType": {"name": artifact.type}, "description": artifact.description,
            "metadata": json.dumps(artifact.metadata), "ttlDurationSeconds": -2, "ttlIsInherited": True,
            "tags": [], "historyStep": None, "size": sum(entry.get("size", 0) for entry in entries.values()),
            "commitHash": "", "fileCount": len(entries), "createdAt": _stamp(artifact.created),
            "updatedAt": None, "currentManifest": self._manifest(url, artifact.id)["artifactManifest"],
            "aliases": [
                {"__typename": "ArtifactAlias", "id": _encode(alias), "alias": alias}
                | {"artifactCollection": collection}
                for alias in artifact.aliases
            ],
        }  # fmt: skip


def _words(value: Any) -> Any:
    """NaN and infinities as W&B answers them. Its client sends them bare, which is not JSON."""
    if isinstance(value, dict):
        return {name: _words(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_words(item) for item in value]
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _viewer() -> dict[str, Any]:
    teams = _connection([{"name": ENTITY}])
    names = {"id": _encode(f"User:{ENTITY}"), "entity": ENTITY, "username": ENTITY, "name": ENTITY}
    return names | {"email": f"{ENTITY}@example.org", "flags": "{}", "teams": teams, "admin": False}


def _project(entity: str, name: str) -> dict[str, Any]:
    owner = {"id": _encode(f"Entity:{entity}"), "name": entity}
    return {"id": _encode(f"Project:{entity}/{name}"), "internalId": "1", "name": name, "entity": owner}


def _connection(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    """All on one page."""
    pages = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
    return {
        "edges": [{"node": node, "cursor": ""} for node in nodes],
        "pageInfo": pages,
        "totalCount": len(nodes),
    }


def _sample(rows: list[dict[str, Any]], spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows that have all the keys, with those alone. This server leaves none out, whatever `samples` says."""
    low, high, keys = spec.get("minStep", 0), spec.get("maxStep", math.inf), spec["keys"]
    rows = [row for row in rows if low <= row["_step"] <= high]
    return [{key: row[key] for key in keys} for row in rows if all(key in row for key in keys)]


def _keys(run: Run) -> dict[str, Any]:
    names = {name for row in run.raw_history for name in row}
    return {name: {"typeCounts": [{"type": "number"}]} for name in sorted(names)}


def _run_id(run: Run) -> str:
    return _encode(json.dumps([run.entity, run.project, run.id]))


def _from_id(id: str) -> Key:
    entity, project, name = json.loads(base64.b64decode(id))
    return entity, project, name


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
