"""The committed reference page is what the models say, and the generator leaves nothing out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from plimsoll_api.crd import custom_resource_definition
from plimsoll_cli.errors import CommandError
from plimsoll_cli.reference import PAGE, page, reference

ROOT = Path(__file__).resolve().parents[3]


def described(schema: dict[str, Any]) -> Iterator[str]:
    for child in schema.get("properties", {}).values():
        if child.get("description"):
            yield " ".join(child["description"].split())
        yield from described(child.get("items", child))


def schema_of(definition: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    return schema


def test_the_committed_page_is_current() -> None:
    assert (ROOT / PAGE).read_text(encoding="utf-8") == page()


@pytest.mark.parametrize("part", ["spec", "status"])
def test_every_field_is_on_the_page(part: str) -> None:
    text = page().replace("\\|", "|").replace("&lt;", "<")
    missing = [line for line in described(schema_of(custom_resource_definition())[part]) if line not in text]
    assert missing == []


def test_a_changed_model_changes_the_page() -> None:
    """Control: the test above can fail."""
    definition = custom_resource_definition()
    schema_of(definition)["spec"]["properties"]["paused"]["description"] = "Something else."
    assert page(definition) != page()
    assert "Something else." in page(definition)


def test_cells_stay_cells() -> None:
    definition = custom_resource_definition()
    schema_of(definition)["spec"]["properties"]["paused"]["description"] = "a|b <tag>"
    assert "a\\|b &lt;tag>" in page(definition)


def test_check_names_the_command_that_mends(tmp_path: Path) -> None:
    old = tmp_path / "crd.md"
    old.write_text("old", encoding="utf-8")
    with pytest.raises(CommandError, match=r"python -m plimsoll_cli\.reference"):
        CliRunner().invoke(reference, ["--output", str(old), "--check"], catch_exceptions=False, standalone_mode=False)
    CliRunner().invoke(reference, ["--output", str(old)], catch_exceptions=False, standalone_mode=False)
    assert old.read_text(encoding="utf-8") == page()
