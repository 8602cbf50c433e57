"""`jobs/README.md`, written from the spec: `python -m lehr.spec.reference jobs > jobs/README.md`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lehr.spec import schema as schemas
from lehr.spec.schema import Schema, members, resolve, words

HEADER = """# Jobs

One YAML file is one job: `lehr check FILE` says every mistake in it, `lehr plan FILE` works every number out,
`lehr run FILE` trains it. `--set key=value` changes a key without touching the file, the value in YAML:
`--set sampler.steps=40`, `--set 'train.duration={steps: 40}'`.

This page is written from the spec by `python -m lehr.spec.reference jobs > jobs/README.md`, and
`schema.json`, which editors read, by `lehr schema > jobs/schema.json`; a test fails when either is behind.
"""
CUSTOM = "your own: `package.module:Attribute`"


def page(jobs: Mapping[str, str]) -> str:
    """The page, in Markdown.

    Args:
        jobs: text of each job file by its name.
    """
    whole = schemas.document()
    parts = [HEADER, _files(jobs), "## Keys\n", _table(whole)]
    parts += [part for name, inner in whole["properties"].items() for part in _section((name,), inner)]
    return "\n".join(parts).rstrip() + "\n"


def _files(jobs: Mapping[str, str]) -> str:
    lines = ["| job | what | expected | command |", "|---|---|---|---|"]
    for name, text in sorted(jobs.items()):
        head = heading(text)
        lines.append(f"| [{name}]({name}) | {head['what']} | {head['expected']} | `{head['command']}` |")
    return "\n".join(lines) + "\n"


def heading(text: str) -> dict[str, str]:
    """What a job file's comments at the top say: `what`, `source`, `expected`, `time`, `command`."""
    said, key = {"what": ""}, "what"
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        words_of_line = line.lstrip("#").strip()
        name, colon, rest = words_of_line.partition(":")
        if colon and name in ("source", "expected", "time", "command"):
            key, words_of_line = name, rest.strip()
            said[key] = ""
        if "yaml-language-server" not in line:
            said[key] = f"{said[key]} {words_of_line}".strip()
    return said


def _section(path: tuple[str, ...], schema: Schema) -> Iterator[str]:
    """The headings and tables of a key that holds keys, and of the keys in it that do."""
    if kinds := members(schema):
        yield f"### {'.'.join(path)}\n"
        for kind, member in kinds:
            yield f"**{CUSTOM if kind == 'custom' else f'kind: {kind}'}.** {member.get('description', '')}\n"
            yield _table(member)
        return
    inner = resolve(schema)
    if "properties" not in inner or inner.get("maxProperties") == 1:
        return
    yield f"### {'.'.join(path)}\n"
    yield f"{inner.get('description', '')}\n"
    yield _table(inner)
    for name, value in inner["properties"].items():
        yield from _section((*path, name), value)
        if named := schemas.named_freely(schemas.resolve(value)):
            yield from _section((*path, name, "KEY"), named)


def _table(schema: Schema) -> str:
    lines = ["| key | accepted | default | |", "|---|---|---|---|"]
    required = schema.get("required", ())
    for name, value in sorted(schema["properties"].items(), key=lambda pair: pair[0] != "kind"):
        default = "required" if name in required else _default(value)
        cells = (f"`{name}`", _accepted(value), default, _description(value))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _description(schema: Schema) -> str:
    return str(schema.get("description") or resolve(schema).get("description", ""))


def _accepted(schema: Schema) -> str:
    """A mapping that has its own table is not told twice."""
    inner = resolve(schema)
    if ("properties" in inner and inner.get("maxProperties") != 1) or schemas.named_freely(inner):
        return "a mapping, see below"
    return words(schema)


def _default(schema: Schema) -> str:
    if "default" not in schema:
        return "by the model's kind" if members(schema) else ""
    value: Any = schema["default"]
    if isinstance(value, dict) and len(value) > 1:
        return "see below"
    return f"`{json.dumps(value)}`" if value not in (None, {}) else ("null" if value is None else "none")


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "jobs")
    print(page({path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.yaml")}), end="")
