"""As much of GraphQL as W&B's client sends: a query is read, and answered from nested dicts.

execute(text, variables, root, unknown)    what a document asks of `root`

Fragments are taken whatever type they are on. A field that is not there is null, and its name is kept in
`unknown`, so that what W&B's client asks and nobody answers can be seen.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\.\.\.|-?\d+(?:\.\d+)?|[A-Za-z_]\w*|[{}()\[\]:$!=@|&]')
_NOISE = re.compile(r'("(?:\\.|[^"\\])*")|#[^\n]*')
_WORDS = {"true": True, "false": False, "null": None}


@dataclass(frozen=True)
class Variable:
    name: str


@dataclass
class Field:
    """One field, with the name under which it is answered (`label`)."""

    label: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    fields: list[Field | str] = field(default_factory=list)  # a str names a fragment
    include: Any = True


class Reader:
    """Reads one document."""

    def __init__(self, text: str) -> None:
        self._tokens = _TOKEN.findall(_NOISE.sub(lambda found: found[1] or "", text))
        self._at = 0
        self.defaults: dict[str, Any] = {}
        self.fragments: dict[str, list[Field | str]] = {}
        self.root: list[Field | str] = []
        while self._at < len(self._tokens):
            self._definition()

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]

    def _definition(self) -> None:
        if self._peek() == "fragment":
            _, name, _, _ = (self._next() for _ in range(4))  # fragment Name on Type
            self.fragments[name] = self._selection()
            return
        while self._peek() not in ("{", "("):
            self._next()
        if self._peek() == "(":
            self._variables()
        self.root = self._selection()

    def _variables(self) -> None:
        name = ""
        self._next()
        while (token := self._next()) != ")":
            if token == "$":
                name = self._next()
            elif token == "=":
                self.defaults[name] = self._value()

    def _selection(self) -> list[Field | str]:
        fields: list[Field | str] = []
        self._next()  # {
        while self._peek() != "}":
            if self._peek() == "...":
                fields += self._spread()
            else:
                fields.append(self._field())
        self._next()
        return fields

    def _spread(self) -> list[Field | str]:
        self._next()
        if self._peek() == "on":
            self._next()
            self._next()
        elif self._peek() not in ("{", "@"):
            return [self._next()]
        return self._selection()

    def _field(self) -> Field:
        label = name = self._next()
        if self._peek() == ":":
            self._next()
            name = self._next()
        asked = Field(label, name)
        if self._peek() == "(":
            asked.arguments = self._pairs(")")
        while self._peek() == "@":
            self._next()
            kind, condition = self._next(), self._pairs(")")["if"]
            asked.include = condition if kind == "include" else False
        if self._peek() == "{":
            asked.fields = self._selection()
        return asked

    def _pairs(self, end: str) -> dict[str, Any]:
        self._next()
        pairs = {}
        while self._peek() != end:
            name, _ = self._next(), self._next()
            pairs[name] = self._value()
        self._next()
        return pairs

    def _value(self) -> Any:
        if self._peek() == "{":
            return self._pairs("}")
        token = self._next()
        if token == "$":
            return Variable(self._next())
        if token == "[":
            values = []
            while self._peek() != "]":
                values.append(self._value())
            self._next()
            return values
        if token in _WORDS:
            return _WORDS[token]
        return token if re.match(r"[A-Za-z_]", token) else json.loads(token)  # an enum's name, or a literal


def execute(text: str, variables: dict[str, Any], root: dict[str, Any], unknown: set[str]) -> dict[str, Any]:
    """The data that a document asks of `root`.

    Args:
        text: the document, with one operation.
        variables: by name.
        root: fields of queries and mutations alike.
        unknown: gets the names of fields that are not there.
    """
    reader = Reader(text)
    known = reader.defaults | variables

    def put_in(value: Any) -> Any:
        if isinstance(value, Variable):
            return known.get(value.name)
        if isinstance(value, dict):
            return {name: put_in(item) for name, item in value.items()}
        return [put_in(item) for item in value] if isinstance(value, list) else value

    def choose(fields: list[Field | str], value: Any) -> Any:
        if isinstance(value, list):
            return [choose(fields, item) for item in value]
        if not isinstance(value, dict) or not fields:
            return value
        chosen: dict[str, Any] = {}
        for asked in fields:
            if isinstance(asked, str):
                chosen |= choose(reader.fragments[asked], value)
            elif put_in(asked.include):
                chosen[asked.label] = one(asked, value)
        return chosen

    def one(asked: Field, value: dict[str, Any]) -> Any:
        if asked.name not in value:
            unknown.add(asked.name)
            return None
        found = value[asked.name]
        arguments = put_in(asked.arguments)
        return choose(asked.fields, found(**arguments) if callable(found) else found)

    return choose(reader.root, root)
