"""What the site needs beyond its pages: diagrams checked and drawn by a script of its own, and linked files."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final

from diagrams import complaint, script
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = ROOT / "docs"
MERMAID: Final = "javascripts/mermaid.js"
"""Named by `extra_javascript`, too: without it the theme would fetch Mermaid from elsewhere."""
FENCE: Final = re.compile(r"^```mermaid\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK: Final = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)")
PAGES: Final = {"charts/plimsoll/README.md": "reference/chart.md"}
"""Pages beside docs/ that the site has, too, and where."""
COPIES: Final = "repository"
"""Folder of the site for files that lie beside docs/ and that a page links to."""


def on_files(files: Files, config: Any) -> Files:
    """Add Mermaid, so that pages fetch nothing from elsewhere, and the pages that lie beside docs/."""
    files.append(File.generated(config, MERMAID, content=script()))
    for source, uri in PAGES.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:
    """Check the page's diagrams, and let its links to files of the repository lead to copies.

    Raises:
        PluginError: a diagram would not be drawn, or a linked file is not there.
    """
    for diagram in FENCE.findall(markdown):
        if wrong := complaint(diagram):
            raise PluginError(f"{page.file.src_uri}: a diagram is not drawn: {wrong}")

    def lead(link: re.Match[str]) -> str:
        """A link that holds where the page is on the site."""
        target = (Path(page.file.abs_src_path or "").parent / link[1]).resolve()
        uri = (
            target.relative_to(DOCS).as_posix() if target.is_relative_to(DOCS) else copied(target, page, config, files)
        )
        return os.path.relpath(uri, Path(page.file.src_uri).parent)

    return LINK.sub(lead, markdown)


def copied(target: Path, page: Page, config: Any, files: Files) -> str:
    """Where the site has a file of the repository, as text that a browser shows.

    Raises:
        PluginError: there is no such file in the repository.
    """
    if not (target.is_relative_to(ROOT) and target.is_file()):
        raise PluginError(f"{page.file.src_uri}: there is no file {target} to link to")
    name = target.relative_to(ROOT).as_posix()
    uri = PAGES.get(name, f"{COPIES}/{name}.txt")
    if files.get_file_from_path(uri) is None:
        files.append(File.generated(config, uri, abs_src_path=str(target)))
    return uri
