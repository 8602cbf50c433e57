"""What W&B knows of runs and artifacts, and what a client sends to it: see `wandb_server`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

ENTITY = "tester"
Key = tuple[str, str, str]  # entity, project, id


@dataclass
class Artifact:
    """One version of a collection; `version` is None until it is committed."""

    id: str
    run: Key
    type: str
    collection: str
    digest: str
    created: float
    description: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    aliases: list[str] = field(default_factory=list)
    version: int | None = None
    manifest: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Such as `checkpoint:v3`."""
        return f"{self.collection}:v{self.version}"

    @property
    def references(self) -> dict[str, str]:
        """The URL that each entry refers to, by the entry's path."""
        entries = self.manifest.get("contents", {})
        return {path: entry["ref"] for path, entry in entries.items() if "ref" in entry}


@dataclass
class Run:
    """What W&B knows of a run."""

    entity: str
    project: str
    id: str
    created: float
    name: str | None = None
    group: str | None = None
    job_type: str | None = None
    notes: str | None = None
    tags: list[str] = field(default_factory=list)
    raw_config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    streams: dict[str, dict[int, str]] = field(default_factory=dict)  # file: offset: line
    files: dict[str, bytes] = field(default_factory=dict)
    state: str = "running"
    exit_code: int | None = None
    artifacts: list[Artifact] = field(default_factory=list)
    used: list[Artifact] = field(default_factory=list)

    def lines(self, file: str) -> list[str]:
        """The lines of a streamed file, by offset."""
        return [line for _, line in sorted(self.streams.get(file, {}).items())]

    @property
    def raw_history(self) -> list[dict[str, Any]]:
        """The rows with W&B's own `_step`, `_runtime`, `_timestamp`; NaN and infinities as floats."""
        return [json.loads(line) for line in self.lines("wandb-history.jsonl")]

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows as they were logged."""
        return [{k: v for k, v in row.items() if not k.startswith("_")} for row in self.raw_history]

    @property
    def config(self) -> dict[str, Any]:
        return {k: v["value"] for k, v in self.raw_config.items() if k != "_wandb"}

    @property
    def last_step(self) -> int:
        return max((row.get("_step", -1) for row in self.raw_history), default=-1)


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    method: str
    path: str
    body: bytes
    time: float
    key: str | None = None

    @property
    def operation(self) -> str:
        """The GraphQL operation, or the path."""
        if self.path != "/graphql":
            return self.path
        named = re.search(r"\b(?:query|mutation)\s+(\w+)", self.json()["query"])
        return named[1] if named else self.path

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    status: int
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
