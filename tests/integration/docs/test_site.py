"""The documentation becomes a site without a warning, and what is opened of it is fetched from nowhere else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CACHE = Path(os.environ.get("PLIMSOLL_CACHE") or Path.home() / ".cache" / "plimsoll")
MKDOCS = CACHE / "tools" / "docs" / "bin" / "mkdocs"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480), pytest.mark.xdist_group("site")]


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """The environment that builds the site; made when it is not there."""
    subprocess.run(["make", "--quiet", "docs-env"], cwd=ROOT, check=True, timeout=200)
    # No proxy and no address: a build that wants the network fails.
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {
        **kept,
        "NO_MKDOCS_2_WARNING": "true",
        "https_proxy": "http://127.0.0.1:1",
        "http_proxy": "http://127.0.0.1:1",
    }


def build(sources: Path, site: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Build the sources in a folder; a warning fails."""
    command = [str(MKDOCS), "build", "--strict", "--site-dir", str(site)]
    return subprocess.run(
        command, cwd=sources, env=environment, capture_output=True, text=True, check=False, timeout=240
    )


class Fetched(HTMLParser):
    """Addresses that a browser asks for by itself when it opens a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        if tag in ("script", "img", "iframe", "source", "video") and named.get("src"):
            self.addresses.append(str(named["src"]))
        if tag == "link" and named.get("rel") in ("stylesheet", "icon", "preload", "preconnect") and named.get("href"):
            self.addresses.append(str(named["href"]))


def test_the_site_is_built_and_fetches_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    done = build(ROOT, tmp_path, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        fetched = Fetched()
        fetched.feed(page.read_text(encoding="utf-8"))
        assert fetched.addresses
        for address in fetched.addresses:
            assert not re.match(r"(https?:)?//", address), f"{page.name} fetches {address}"
            # The page of errors is served from anywhere, so its addresses begin at the root.
            here = tmp_path if address.startswith("/") else page.parent
            assert (here / address.lstrip("/").partition("?")[0]).is_file(), f"{page.name} asks for {address}"
    # The theme fetches Mermaid from elsewhere unless a page has it already.
    drawn = (tmp_path / "concepts" / "diagnosis.html").read_text(encoding="utf-8")
    assert 'class="mermaid"' in drawn
    assert "javascripts/mermaid.js" in drawn


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("[nothing](nowhere.md)", "'nowhere.md'"),
        ("[nothing](../nowhere.yaml)", "there is no file"),
        ("[nothing](#nowhere)", "#nowhere"),
        ("```mermaid\nflowchart LR\n  a -->\n```", "a diagram is not drawn: Parse error"),
    ],
)
def test_a_mistake_is_noticed(line: str, complaint: str, tmp_path: Path, environment: dict[str, str]) -> None:
    """Control: a page with a wrong link or diagram is not published. A site of that page alone."""
    sources = tmp_path / "sources"
    shutil.copytree(ROOT / "docs" / "_site", sources / "docs" / "_site")
    shutil.copytree(ROOT / "charts", sources / "charts")
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[0]
    (sources / "mkdocs.yml").write_text(f"{config}\nnav: [index.md, reference/chart.md]\n", encoding="utf-8")
    (sources / "docs" / "contracts.md").write_text("# Contracts\n", encoding="utf-8")
    (sources / "docs" / "index.md").write_text(f"# Page\n\n{line}\n", encoding="utf-8")
    done = build(sources, tmp_path / "site", environment)
    assert done.returncode != 0
    assert complaint in done.stdout + done.stderr
