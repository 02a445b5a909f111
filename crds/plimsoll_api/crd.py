"""The `LLMService` custom resource definition, generated from the pydantic models.

Pydantic's JSON schema is not a structural schema of Kubernetes: it has `$ref`, `anyOf` with null, `const`, titles and
numeric exclusive bounds. `structural` rewrites one into the other and refuses what it cannot express, so that a model
change never loses a constraint silently. Pure: nothing is read or written.

Reference: Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions", sections "Specifying a
structural schema", "Defaulting" and "Validation rules".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import yaml
from pydantic import BaseModel

from plimsoll_api import names
from plimsoll_api.v1alpha1.base import VALIDATIONS, Rule
from plimsoll_api.v1alpha1.spec import LLMServiceSpec
from plimsoll_api.v1alpha1.status import LLMServiceStatus

Schema = dict[str, Any]

HEADER: Final = (
    "# Generated from the models in crds/plimsoll_api/v1alpha1 by `make crds`; edit those, not this file.\n"
    "# `plimsoll crd --check FILE` says whether it is current.\n"
)

_KEPT: Final = frozenset(
    {
        "description",
        "enum",
        "format",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "pattern",
        "type",
        "uniqueItems",
    }
)
"""Keywords that mean the same in both and are copied as they are."""

_DROPPED: Final = frozenset({"title", "$defs", "additionalProperties", "default", "properties", "items", "required"})
"""Keywords that are left out or that `structural` handles itself."""

PRINTER_COLUMNS: Final[tuple[Mapping[str, str | int], ...]] = (
    {"name": "Model", "type": "string", "jsonPath": ".spec.model.uri", "description": "The model it serves."},
    {
        "name": "Accelerator",
        "type": "string",
        "jsonPath": ".status.recommendation.config.accelerator",
        "description": "The kind of GPU it runs on.",
    },
    {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas", "description": "Replicas wanted now."},
    {"name": "Ready", "type": "integer", "jsonPath": ".status.readyReplicas", "description": "Replicas that serve."},
    {
        "name": "Diagnosis",
        "type": "string",
        "jsonPath": ".status.diagnosis.kind",
        "description": "What the detector says is happening.",
    },
    {
        "name": "TTFT",
        "type": "string",
        "jsonPath": ".status.observed.ttft",
        "description": "Measured time to first token, at the objectives' percentile.",
    },
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
)
"""What `kubectl get llm` shows."""


_NAME_RULE: Final = Rule(
    cel=f"self.metadata.name.size() <= {names.MAX_NAME_LENGTH} && self.metadata.name.matches('^[a-z][-a-z0-9]*$')",
    message=f"metadata.name must start with a letter, have only lower-case letters, digits and '-', and at most "
    f"{names.MAX_NAME_LENGTH} characters: the names of its Service and Deployment are made of it",
)
"""The Service is named like the LLMService, and a Service's name is a DNS label (RFC 1035)."""


def structural(node: Mapping[str, Any], definitions: Mapping[str, Any], *, defaults: bool) -> Schema:
    """One node of a pydantic JSON schema as a node of a structural schema.

    Args:
        node: the node, which may be a `$ref` or an `anyOf` of one schema and null.
        definitions: the `$defs` of the whole schema.
        defaults: whether to keep defaults (a spec has them; a status must read back as it was written).

    Raises:
        ValueError: the node uses a keyword that has no structural counterpart here.
    """
    merged = _resolve(node, definitions)
    if merged.get("x-kubernetes-int-or-string"):
        del merged["type"]
    result: Schema = {}
    for key, value in merged.items():
        if key in _KEPT or key.startswith("x-kubernetes-"):
            result[key] = value
        elif key == "const":
            result["enum"] = [value]
        elif key in ("exclusiveMinimum", "exclusiveMaximum"):
            result[key.removeprefix("exclusive").lower()] = _inclusive(key, value, merged)
        elif key not in _DROPPED:
            raise ValueError(f"the schema keyword {key!r} has no structural counterpart: {dict(node)}")
    if "properties" in merged:
        result["properties"] = {
            name: structural(child, definitions, defaults=defaults) for name, child in merged["properties"].items()
        }
        if merged.get("required"):
            result["required"] = list(merged["required"])
    if isinstance(merged.get("additionalProperties"), dict):
        result["additionalProperties"] = structural(merged["additionalProperties"], definitions, defaults=defaults)
    if "items" in merged:
        result["items"] = structural(merged["items"], definitions, defaults=defaults)
    if defaults and (default := _default(merged.get("default"))) is not None:
        result["default"] = default
    return _ordered(result)


def _resolve(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    """Inline a `$ref` and reduce `anyOf: [X, null]` to X; keywords beside them win over those inside."""
    beside = {key: value for key, value in node.items() if key not in ("$ref", "anyOf")}
    if "$ref" in node:
        return {**_resolve(definitions[node["$ref"].rsplit("/", 1)[-1]], definitions), **beside}
    if "anyOf" in node:
        choices = [choice for choice in node["anyOf"] if choice.get("type") != "null"]
        if len(choices) != 1:
            raise ValueError(f"a field of several types has no structural counterpart: {dict(node)}")
        return {**_resolve(choices[0], definitions), **beside}
    return beside


def _inclusive(key: str, value: float, node: Mapping[str, Any]) -> int:
    """The inclusive integer bound that an exclusive one means."""
    if node.get("type") != "integer":
        raise ValueError(f"an exclusive bound of a number that is not an integer has no structural counterpart: {node}")
    return int(value) + (1 if key == "exclusiveMinimum" else -1)


def _default(value: Any) -> Any:
    """A default without null and empty members; None when nothing is left of it, so that it says nothing.

    An object's default is complete: the API server evaluates CEL rules on a default before it fills in nested ones.
    """
    if isinstance(value, dict):
        value = {name: item for name, inner in value.items() if (item := _default(inner)) is not None}
    return None if value in ({}, []) else value


def _ordered(schema: Schema) -> Schema:
    """The keywords in the order a person reads them: what it is, then its bounds, then its content."""
    first = ["description", "type", "format", "enum", "pattern", "default"]
    last = ["required", "properties", "additionalProperties", "items"]
    middle = [key for key in schema if key not in first and key not in last]
    return {key: schema[key] for key in [*first, *middle, *last] if key in schema}


def model_schema(model: type[BaseModel], *, defaults: bool) -> Schema:
    """The structural schema of a model, under its camelCase names."""
    schema = model.model_json_schema(by_alias=True)
    return structural(schema, schema.get("$defs", {}), defaults=defaults)


def custom_resource_definition() -> dict[str, Any]:
    """The whole CustomResourceDefinition as a JSON-compatible dictionary."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.PLURAL}.{names.GROUP}", "labels": {names.LABEL_PART_OF: names.APP_NAME}},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.KIND,
                "listKind": f"{names.KIND}List",
                "plural": names.PLURAL,
                "singular": names.SINGULAR,
                "shortNames": list(names.SHORT_NAMES),
                "categories": [names.APP_NAME],
            },
            "versions": [_version()],
        },
    }


def _version() -> dict[str, Any]:
    return {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": [dict(column) for column in PRINTER_COLUMNS],
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "schema": {
            "openAPIV3Schema": {
                "description": "A large language model served on this cluster: sized, run, watched and scaled.",
                "type": "object",
                "required": ["spec"],
                VALIDATIONS: _NAME_RULE.validations(),
                "properties": {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "metadata": {"type": "object"},
                    "spec": model_schema(LLMServiceSpec, defaults=True),
                    "status": model_schema(LLMServiceStatus, defaults=False),
                },
            }
        },
    }


class _Dumper(yaml.SafeDumper):
    """Writes a part that occurs twice twice: an anchor would hide half of the schema from a reader."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def to_yaml() -> str:
    """The CustomResourceDefinition as YAML: the same text every time, with a note where it comes from."""
    definition = custom_resource_definition()
    return HEADER + yaml.dump(definition, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
