"""The reference page of the LLMService, made from the schema that the API server enforces.

`python -m plimsoll_cli.reference` writes docs/reference/crd.md; `--check` exits 1 when it is not current.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from plimsoll_api.crd import custom_resource_definition
from plimsoll_cli.errors import CommandError

Schema = Mapping[str, Any]

PAGE: Final = Path("docs/reference/crd.md")
"""Where the page is, from the repository's root."""

_SECTION_DEPTH: Final = 2
"""Levels below the object that get a heading of their own (`spec.scaling`); what is deeper is a row with its path."""

_QUOTED_VALUE: Final = re.compile(r",? (?:not |\()self\.[\w.]+\)?")
"""Where a message quotes what was written, as in `minReplicas (self.minReplicas)`: a page has no value to show."""

_INTRODUCTION: Final = """\
# LLMService reference

<!-- made from the models by `python -m plimsoll_cli.reference`, do not edit -->

`{group}/{version}`, kind `{kind}`, plural `{plural}`, short names {short}. Every field that the API server
knows, with what it refuses. What the parts are for: [The LLMService](../api.md).

{rules}
"""


@dataclass(frozen=True)
class FieldRow:
    """One field of the schema.

    Attributes:
        path: from its section, such as `inputTokens.mean` or `accelerators[].product`.
        type: as `kubectl explain` names it.
        required: whether the object that holds it must have it.
        default: what the API server fills in, as JSON; None when it fills in nothing.
        limits: bounds, lengths, allowed values and messages of the rules, each a clause.
        text: the description.
    """

    path: str
    type: str
    required: bool
    default: str | None
    limits: tuple[str, ...]
    text: str


def page(definition: Schema | None = None) -> str:
    """The whole page as Markdown.

    Args:
        definition: a CustomResourceDefinition; the product's own when absent.
    """
    definition = definition or custom_resource_definition()
    spec = definition["spec"]
    version = spec["versions"][0]
    names = spec["names"]
    root = version["schema"]["openAPIV3Schema"]
    parts = [
        _INTRODUCTION.format(
            group=spec["group"],
            version=version["name"],
            kind=names["kind"],
            plural=names["plural"],
            short=", ".join(f"`{name}`" for name in names.get("shortNames", [])),
            rules="\n".join(f"- {message}" for message in _messages(root)),
        )
    ]
    properties = root["properties"]
    for name in ("spec", "status"):
        parts.extend(_sections(name, properties[name], 1))
    parts.append(_columns(version["additionalPrinterColumns"]))
    return "\n".join(parts)


def _sections(path: str, schema: Schema, depth: int) -> Iterator[str]:
    """A heading and a table for an object, then the same for each object in it that deserves a heading."""
    own: list[FieldRow] = []
    nested: list[tuple[str, Schema]] = []
    for name, child in schema["properties"].items():
        inner = _object_of(child)
        if inner is not None and depth < _SECTION_DEPTH:
            nested.append((f"{path}.{name}{'[]' if child['type'] == 'array' else ''}", inner))
            own.append(_row(name, child, name in schema.get("required", ())))
        else:
            own.extend(_rows(name, child, name in schema.get("required", ())))
    yield f"{'#' * (depth + 1)} {path}\n"
    if depth == 1:
        yield f"{schema.get('description', '')}\n"
    for message in _messages(schema):
        yield f"- {message}"
    if _messages(schema):
        yield ""
    yield _table(own)
    for name, inner in nested:
        yield from _sections(name, inner, depth + 1)


def _object_of(schema: Schema) -> Schema | None:
    """The object with named fields that a field or its items are; None for anything else."""
    target = schema.get("items", schema)
    return target if target.get("properties") else None


def _rows(path: str, schema: Schema, required: bool) -> Iterator[FieldRow]:
    """A field and everything in it."""
    yield _row(path, schema, required)
    inner = _object_of(schema)
    if inner is None:
        return
    prefix = f"{path}[]" if schema["type"] == "array" else path
    for name, child in inner["properties"].items():
        yield from _rows(f"{prefix}.{name}", child, name in inner.get("required", ()))


def _row(path: str, schema: Schema, required: bool) -> FieldRow:
    default = json.dumps(schema["default"], ensure_ascii=False) if "default" in schema else None
    inner = [clause for clause in _limits(schema.get("items", {})) if "properties" not in schema.get("items", {})]
    limits = (*_limits(schema), *(f"each: {clause}" for clause in inner))
    return FieldRow(path, _type(schema), required, default, limits, schema.get("description", ""))


def _type(schema: Schema) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return "integer or string"
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    if isinstance(schema.get("additionalProperties"), Mapping):
        return f"map of {_type(schema['additionalProperties'])}"
    return str(schema.get("type", "any"))


def _limits(schema: Schema) -> tuple[str, ...]:
    """What the API server refuses of a field, in words."""
    found: list[str] = []
    if "enum" in schema:
        found.append("one of " + ", ".join(f"`{value}`" for value in schema["enum"]))
    for low, high, of in (("minimum", "maximum", ""), ("minLength", "maxLength", " characters")):
        found.extend(_range(schema.get(low), schema.get(high), of))
    found.extend(_range(schema.get("minItems"), schema.get("maxItems"), " items"))
    if "properties" not in schema:
        found.extend(_messages(schema))
    return tuple(found)


def _range(low: Any, high: Any, of: str) -> Iterator[str]:
    if low is not None and high is not None:
        yield f"{low} to {high}{of}"
    elif high is not None:
        yield f"at most {high}{of}"
    elif low is not None:
        yield f"at least {low}{of}"


def _messages(schema: Schema) -> list[str]:
    """What the rules of a field or object say when they refuse, without the values that a computed message quotes."""
    rules = schema.get("x-kubernetes-validations", ())
    return [_QUOTED_VALUE.sub("", " ".join(str(rule["message"]).split())) for rule in rules]


def _table(rows: list[FieldRow]) -> str:
    lines = ["| field | type | default | meaning and limits |", "|---|---|---|---|"]
    for row in rows:
        name = f"`{row.path}`" + (" (required)" if row.required else "")
        default = f"`{row.default}`" if row.default is not None else ""
        text = " ".join(row.text.split())
        limits = f" ({'; '.join(row.limits)})" if row.limits else ""
        cells = (name, row.type, default, text + limits)
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Text that neither ends a table's cell nor reads as an HTML tag."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def _columns(columns: list[Schema]) -> str:
    lines = ["## Columns of kubectl get\n", "| column | from | meaning |", "|---|---|---|"]
    lines.extend(
        f"| {column['name']} | `{column['jsonPath']}` | {_cell(column.get('description', ''))} |" for column in columns
    )
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), default=PAGE, show_default=True)
@click.option("--check", is_flag=True, help="Exit 1 when the page is not current.")
def reference(output: Path, check: bool) -> None:
    """Write the reference page of the LLMService."""
    made = page()
    if not check:
        output.write_text(made, encoding="utf-8")
    elif not output.is_file() or output.read_text(encoding="utf-8") != made:
        raise CommandError(f"{output} is not current: run `python -m plimsoll_cli.reference`")


if __name__ == "__main__":
    reference()
