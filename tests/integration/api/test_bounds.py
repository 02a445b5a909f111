"""Every keyword of the schema at its bound and one step beyond it, against the real API server.

The cases are made from the schema itself, so a constraint that is added is tested without anyone thinking of it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from plimsoll_api import names
from plimsoll_api.crd import custom_resource_definition

pytestmark = [pytest.mark.api_server, pytest.mark.xdist_group("control_plane")]

VERSION = custom_resource_definition()["spec"]["versions"][0]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]["properties"]

SPEC: dict[str, Any] = {
    "model": {"uri": "hf://meta-llama/Llama-3.1-8B", "servedName": "chat", "cache": {"size": "1Gi"}},
    "accelerators": [{"product": "NVIDIA-L4"}],
    "engine": {"extraArgs": ["--seed=1"]},
    "podTemplate": {"metadata": {"labels": {}}, "spec": {}},
}
STATUS: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "status.yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Bound:
    """One constraint: a value that it takes, one that it refuses, and the server's words for the refusal."""

    path: str
    keyword: str
    good: Any
    bad: Any
    says: str

    def __str__(self) -> str:
        return f"{self.path} {self.keyword}"


ABSENT = object()
"""Stands for a field that is left out."""


def bounds(schema: dict[str, Any], path: str) -> Iterator[Bound]:
    """Every keyword of a node and of the nodes below it."""
    yield from _of_value(schema, path)
    for name in schema.get("required", []):
        yield Bound(f"{path}.{name}", "required", None, ABSENT, "Required value")
    for name, child in schema.get("properties", {}).items():
        yield from bounds(child, f"{path}.{name}")
    if "items" in schema:
        yield from bounds(schema["items"], f"{path}[0]")


def _of_value(schema: dict[str, Any], path: str) -> Iterator[Bound]:
    """The keywords of one node."""
    kind = schema.get("type")
    if kind and not schema.get("properties") and "format" not in schema:
        wrong = "text" if kind in ("integer", "array", "object", "boolean") else 5
        yield Bound(path, "type", None, wrong, f"must be of type {kind}")
    if "enum" in schema:
        yield Bound(path, "enum", schema["enum"][-1], "Other", "supported values")
    if "minimum" in schema:
        low = schema["minimum"]
        yield Bound(path, "minimum", low, low - 1, f"should be greater than or equal to {low}")
    if "maximum" in schema:
        high = schema["maximum"]
        yield Bound(path, "maximum", high, high + 1, f"should be less than or equal to {high}")
    if "maxLength" in schema:
        size = schema["maxLength"]
        yield Bound(path, "maxLength", "1" * size, "1" * (size + 1), f"may not be more than {size} bytes")
    if "pattern" in schema:
        yield Bound(path, "pattern", None, "!", "should match")
    if schema.get("format") == "date-time":
        yield Bound(path, "format", "2026-01-01T00:00:00Z", "yesterday", "must be of type date-time")
    if "maxItems" in schema:
        yield from _of_list(schema, path)


def _of_list(schema: dict[str, Any], path: str) -> Iterator[Bound]:
    """A list at its longest and one longer; elements differ where they have a key."""
    size, keys = schema["maxItems"], schema.get("x-kubernetes-list-map-keys", [])
    element = _at({"spec": SPEC, "status": STATUS}, f"{path}[0]")

    def elements(count: int) -> list[Any]:
        return [
            {**element, **dict.fromkeys(keys, f"Key{number}")} if keys else copy.deepcopy(element)
            for number in range(count)
        ]

    yield Bound(path, "maxItems", elements(size), elements(size + 1), f"must have at most {size} items")
    if keys:
        yield Bound(path, "list-map-keys", elements(2), [element, element], "Duplicate value")


def _steps(path: str) -> list[str | int]:
    """`spec.accelerators[0].product` as keys and positions."""
    return [int(step) if step.isdigit() else step for step in path.replace("[", ".").replace("]", "").split(".")]


def _at(document: Any, path: str) -> Any:
    for step in _steps(path):
        document = document[step]
    return document


def changed(path: str, value: Any) -> dict[str, Any]:
    """A complete LLMService with one value changed, or removed when it is ABSENT."""
    document: Any = copy.deepcopy({"spec": SPEC, "status": STATUS})
    node = document
    *parents, last = _steps(path)
    for step in parents:
        node = node.setdefault(step, {}) if isinstance(step, str) else node[step]
    if value is ABSENT:
        node.pop(last, None)
    else:
        node[last] = value
    return document  # type: ignore[no-any-return]


BOUNDS = [*bounds(SCHEMA["spec"], "spec"), *bounds(SCHEMA["status"], "status")]


@pytest.fixture(scope="module")
def existing(session_api: Any) -> dict[str, Any]:
    """A service whose spec and status can be replaced, over and over, without keeping anything."""
    document = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": "bounds"}, "spec": SPEC}
    answer = session_api.create(document, dry_run=False)
    assert answer.accepted, answer.message
    return answer.body  # type: ignore[no-any-return]


@pytest.mark.parametrize("bound", BOUNDS, ids=str)
def test_a_bound_holds_and_no_further(bound: Bound, session_api: Any, existing: dict[str, Any]) -> None:
    def complaints(value: Any) -> list[str]:
        part = bound.path.split(".")[0]
        answer = session_api.update(
            {**existing, part: changed(bound.path, value)[part]}, subresource="status" if part == "status" else ""
        )
        return [words for field, words in answer.causes if bound.says in words and field.startswith(bound.path)]

    assert complaints(bound.bad), f"{bound.path} took {bound.bad!r}"
    if bound.good is not None:
        assert complaints(bound.good) == []


def test_what_the_bounds_start_from_is_valid(session_api: Any, existing: dict[str, Any]) -> None:
    answer = session_api.update({**existing, "status": STATUS}, subresource="status")
    assert answer.accepted, answer.message


def test_every_keyword_is_known_here() -> None:
    """A keyword that this file does not test would be a constraint without a test."""
    tested = {"type", "enum", "minimum", "maximum", "maxLength", "pattern", "format", "maxItems", "required"}
    no_constraint = {"description", "default", "properties", "items", "additionalProperties"}

    def keywords(node: dict[str, Any]) -> set[str]:
        below = [*node.get("properties", {}).values(), *([node["items"]] if "items" in node else [])]
        return set(node).union(*map(keywords, below)) if below else set(node)

    used = {word for word in keywords(SCHEMA["spec"]) | keywords(SCHEMA["status"]) if not word.startswith("x-")}
    assert used - tested - no_constraint == set()
