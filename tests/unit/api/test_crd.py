"""The custom resource definition that the models generate."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from click.testing import CliRunner
from pydantic import BaseModel, Field

from plimsoll_api.crd import custom_resource_definition, model_schema, to_yaml
from plimsoll_cli.crd import crd
from plimsoll_cli.errors import CommandError

ROOT = Path(__file__).resolve().parents[3]
COMMITTED = ROOT / "crds" / "plimsoll.dev_llmservices.yaml"


def nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node of a schema with its dotted path, parents first."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


def root() -> dict[str, Any]:
    version = custom_resource_definition()["spec"]["versions"][0]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


SPEC_NODES = list(nodes(root()["properties"]["spec"], "spec"))
ALL_NODES = [*SPEC_NODES, *nodes(root()["properties"]["status"], "status")]


class Colour(StrEnum):
    RED = "red"


class Part(BaseModel):
    """A part."""

    size: int = Field(gt=0, lt=10)


class Whole(BaseModel):
    """A whole."""

    part: Part | None = Field(default=None, description="Its part.")
    colour: Colour = Field(default=Colour.RED)
    only: Literal["this"] = "this"
    labels: dict[str, str] = {}


def test_a_model_becomes_a_structural_schema() -> None:
    assert model_schema(Whole, defaults=True) == {
        "description": "A whole.",
        "type": "object",
        "properties": {
            "part": {
                "description": "Its part.",
                "type": "object",
                "required": ["size"],
                "properties": {"size": {"type": "integer", "minimum": 1, "maximum": 9}},
            },
            "colour": {"type": "string", "enum": ["red"], "default": "red"},
            "only": {"type": "string", "enum": ["this"], "default": "this"},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    }


class OfTwoTypes(BaseModel):
    value: int | str


class OfReals(BaseModel):
    value: float = Field(gt=0)


class OfTuples(BaseModel):
    value: tuple[int, str]


@pytest.mark.parametrize("model", [OfTwoTypes, OfReals, OfTuples])
def test_what_cannot_be_expressed_is_refused(model: type[BaseModel]) -> None:
    with pytest.raises(ValueError, match="no structural counterpart"):
        model_schema(model, defaults=True)


@pytest.mark.parametrize(("path", "node"), ALL_NODES, ids=[path for path, _ in ALL_NODES])
def test_every_node_is_structural(path: str, node: dict[str, Any]) -> None:
    assert ("type" in node) != bool(node.get("x-kubernetes-int-or-string")), "one type, or an integer or string"
    for word in ("$ref", "$defs", "anyOf", "allOf", "oneOf", "const", "title", "nullable", "exclusiveMinimum"):
        assert word not in node
    assert node.get("type") != "number", "floats do not survive comparison and hashing"
    if not path.endswith("[]"):
        assert node.get("description", "").endswith("."), "kubectl explain shows this sentence"
    if path.startswith("status"):
        assert "default" not in node, "a status must read back as it was written"


@pytest.mark.parametrize(("path", "node"), SPEC_NODES, ids=[path for path, _ in SPEC_NODES])
def test_every_field_of_the_spec_is_bounded(path: str, node: dict[str, Any]) -> None:
    if path.startswith("spec.podTemplate"):
        return
    if node.get("type") == "string" and "enum" not in node:
        assert "maxLength" in node
    if node.get("type") == "array":
        assert "maxItems" in node
    if node.get("type") == "integer":
        assert "minimum" in node
        assert "maximum" in node


def test_model_uri_is_the_only_thing_required() -> None:
    assert [(path, node["required"]) for path, node in SPEC_NODES if "required" in node and "[]" not in path] == [
        ("spec", ["model"]),
        ("spec.model", ["uri"]),
        ("spec.model.cache", ["size"]),
        ("spec.workload.inputTokens", ["mean"]),
        ("spec.workload.outputTokens", ["mean"]),
    ]


def test_conditions_come_first_in_the_status() -> None:
    status = root()["properties"]["status"]
    assert next(iter(status["properties"])) == "conditions"
    assert status["properties"]["conditions"]["x-kubernetes-list-map-keys"] == ["type"]


def test_the_columns_read_fields_that_exist() -> None:
    version = custom_resource_definition()["spec"]["versions"][0]
    known = {f".{path}" for path, _ in ALL_NODES} | {".metadata.creationTimestamp"}
    columns = version["additionalPrinterColumns"]
    assert [column["name"] for column in columns] == [
        "Model",
        "Accelerator",
        "Replicas",
        "Ready",
        "Diagnosis",
        "TTFT",
        "Age",
    ]
    assert {column["jsonPath"] for column in columns} <= known
    assert set(version["subresources"]["scale"].values()) <= known


def test_the_yaml_is_the_definition_and_says_where_it_comes_from() -> None:
    text = to_yaml()
    assert yaml.safe_load(text) == custom_resource_definition()
    assert text.startswith("# Generated from the models")
    assert text == to_yaml()
    assert "&id" not in text, "anchors would hide the schema from readers"


def test_the_committed_yaml_is_current() -> None:
    result = CliRunner().invoke(crd, ["--check", str(COMMITTED)])
    assert result.exit_code == 0, result.output


def test_check_shows_what_differs_and_how_to_mend_it(tmp_path: Path) -> None:
    stale = tmp_path / "stale.yaml"
    stale.write_text(to_yaml().replace("maximum: 64", "maximum: 65"), encoding="utf-8")
    result = CliRunner().invoke(crd, ["--check", str(stale)])
    assert isinstance(result.exception, CommandError)
    assert result.exception.exit_code == 1
    assert f"plimsoll crd --output {stale}" in str(result.exception)
    assert "maximum: 65" in result.output


def test_check_of_a_missing_file_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(crd, ["--check", str(tmp_path / "none.yaml")])
    assert isinstance(result.exception, CommandError)
    assert result.exception.exit_code == 2
    assert "No such file" in str(result.exception)


def test_output_and_print_write_the_same(tmp_path: Path) -> None:
    path = tmp_path / "crd.yaml"
    assert CliRunner().invoke(crd, ["--output", str(path)]).exit_code == 0
    assert path.read_text(encoding="utf-8") == CliRunner().invoke(crd, []).output == to_yaml()
