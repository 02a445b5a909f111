"""Documentation that stays true: links lead somewhere, pages are found, YAML is valid, pictures are drawn."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

from plimsoll_api.v1alpha1 import LLMServiceSpec

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"])
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)(?:#[^)]*)?\)")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_page_is_found_from_the_index() -> None:
    seen, ahead = set[Path](), [ROOT / "docs" / "index.md"]
    while ahead:
        page = ahead.pop()
        seen.add(page)
        links = {(page.parent / target).resolve() for target in LINK.findall(page.read_text(encoding="utf-8"))}
        ahead.extend(link for link in links - seen if link.suffix == ".md")
    assert set((ROOT / "docs").rglob("*.md")) - seen == set()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_services_in_the_text_are_valid(page: Path) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        for document in yaml.safe_load_all(block):
            if isinstance(document, dict) and document.get("kind") == "LLMService":
                LLMServiceSpec.model_validate(document["spec"])


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=name)
def test_examples_are_valid_and_say_what_they_are_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    services = [document for document in yaml.safe_load_all(text) if document["kind"] == "LLMService"]
    assert services
    for service in services:
        LLMServiceSpec.model_validate(service["spec"])


def test_the_picture_is_well_formed_and_described() -> None:
    picture = ElementTree.parse(ROOT / "docs" / "architecture.svg").getroot()  # noqa: S314  our own file
    children = {child.tag.rpartition("}")[2] for child in picture}
    assert {"title", "desc"} <= children


def test_the_list_of_decisions_is_complete() -> None:
    listed = set(LINK.findall((ROOT / "docs" / "adr" / "README.md").read_text(encoding="utf-8")))
    assert listed == {path.name for path in (ROOT / "docs" / "adr").glob("0*.md")}
