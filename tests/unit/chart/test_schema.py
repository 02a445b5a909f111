"""values.schema.json against values.yaml: the same keys, and nothing else is let through."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml


@pytest.fixture(scope="session")
def schema(chart: Path) -> dict[str, Any]:
    """The schema."""
    read: dict[str, Any] = json.loads((chart / "values.schema.json").read_text(encoding="utf-8"))
    return read


@pytest.fixture(scope="session")
def values(chart: Path) -> dict[str, Any]:
    """The defaults."""
    read: dict[str, Any] = yaml.safe_load((chart / "values.yaml").read_text(encoding="utf-8"))
    return read


def resolved(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """A part with its reference followed."""
    reference = part.get("$ref")
    return schema["$defs"][reference.removeprefix("#/$defs/")] if reference else part


def properties(schema: dict[str, Any], part: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of the schema that names its keys, with its path."""
    part = resolved(schema, part)
    if "properties" in part:
        yield path, part
        for name, inner in part["properties"].items():
            yield from properties(schema, inner, f"{path}.{name}".lstrip("."))


def test_the_schema_is_one(schema: dict[str, Any]) -> None:
    """Of the draft that Helm 3 and 4 read."""
    jsonschema.Draft7Validator.check_schema(schema)


def test_the_defaults_pass(schema: dict[str, Any], values: dict[str, Any]) -> None:
    """Installing without a value is allowed."""
    jsonschema.validate(values, schema, cls=jsonschema.Draft7Validator)


def test_every_object_refuses_what_it_does_not_know(schema: dict[str, Any]) -> None:
    """A misspelt key is an error wherever it is."""
    assert [path for path, part in properties(schema, schema) if part.get("additionalProperties") is not False] == []


def test_schema_and_defaults_have_the_same_keys(schema: dict[str, Any], values: dict[str, Any]) -> None:
    """But for `global`, which Helm gives to subcharts, and what Kubernetes' own objects have."""
    for path, part in properties(schema, schema):
        default: Any = values
        for name in path.split(".") if path else []:
            default = default[name]
        assert set(default) | {"global", "claims"} >= set(part["properties"]), path
        assert set(default) <= set(part["properties"]), path
