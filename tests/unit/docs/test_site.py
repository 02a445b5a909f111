"""The site's navigation has every page, every word has one, and headings that links name exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
LINK = re.compile(r"\]\((?!https?://)([^)#]*)#([^)]+)\)")


class Loader(yaml.SafeLoader):
    """Reads `!!python/name:...`, which the site's configuration needs, as nothing."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/name:", lambda loader, suffix, node: None)


def pages_of(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for child in node.values():
            yield from pages_of(child)
    else:
        for child in node:
            yield from pages_of(child)


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and mkdocs make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_navigation_once() -> None:
    config = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader=Loader)  # noqa: S506  a safe loader
    listed = list(pages_of(config["nav"]))
    there = {str(page.relative_to(DOCS)) for page in PAGES}
    assert sorted(listed) == sorted(there | {"reference/chart.md"}), "nav of mkdocs.yml"


def test_every_word_leads_to_a_page_of_its_own() -> None:
    """The table on the first page says each word in a line; the rest is one page for each."""
    words = (DOCS / "index.md").read_text(encoding="utf-8").partition("## Words")[2]
    rows = [row for row in words.splitlines() if row.startswith("| ")][1:]
    pages = [re.match(r"\| \[[^]]+\]\((concepts/[\w-]+\.md)\) \|", row) for row in rows]
    assert all(pages), [row for row, page in zip(rows, pages, strict=True) if not page]
    led_to = {page[1] for page in pages if page}
    assert len(led_to) >= 9
    assert [page for page in led_to if not (DOCS / page).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_headings_that_links_name_exist(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        other = (page.parent / target).resolve() if target else page
        if other.suffix == ".md":
            assert anchor in anchors(other), f"{target}#{anchor}"


def test_a_heading_that_is_not_there_is_noticed(tmp_path: Path) -> None:
    """Control: the test above can fail."""
    page = tmp_path / "page.md"
    page.write_text("# Without it\n\n```sh\n# a comment\n```\n", encoding="utf-8")
    assert anchors(page) == {"without-it"}
