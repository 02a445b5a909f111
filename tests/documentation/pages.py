"""What a page tells its reader to type: shell commands, YAML and Python, with their lines."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "charts" / "plimsoll" / "README.md"])

Language = Literal["shell", "yaml", "python"]

PROGRAMS: Final = ("curl", "docker", "helm", "kind", "kubectl", "make", "plimsoll", "python")
MENTION_WORDS: Final = 2
"""Up to so many words between backticks name a command (`kubectl scale`); more are one to type, if no block has it."""

_FENCE: Final = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INDENTED: Final = re.compile(r"(?<=\n\n)(?: {4}[^\n]*\n)+")
_INLINE: Final = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_REMARK: Final = re.compile(r"<!--.*?-->", re.DOTALL)
_LANGUAGES: Final[dict[str, Language]] = {
    "sh": "shell", "bash": "shell", "console": "shell", "yaml": "yaml", "python": "python",
}  # fmt: skip
_COMMENT: Final = re.compile(r"(?<=\s)#\s.*$|^#.*$", re.MULTILINE)


@dataclass(frozen=True)
class Piece:
    """One command, or one block of YAML or Python.

    Args:
        page: its file, from the root of the repository.
        line: where it begins, from 1.
        language: what reads it.
        text: as a shell, a YAML or a Python reader takes it.
    """

    page: str
    line: int
    language: Language
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def pieces(path: Path) -> list[Piece]:
    """Everything that a page gives to type, in its order."""
    return read(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))


def read(text: str, page: str) -> list[Piece]:
    """Everything that a page's text gives to type, in its order."""
    found: list[tuple[int, Language, str]] = []
    for match in _FENCE.finditer(text):
        if language := _LANGUAGES.get(match[1]):
            found += _block(language, match[2], match.start(2))
    rest = _REMARK.sub(_blank, _FENCE.sub(_blank, text))
    for match in _INDENTED.finditer(rest):
        if _is_typed(match[0].strip().removeprefix("$ ")):
            found += _block("shell", match[0], match.start())
    rest = _INDENTED.sub(_blank, rest)
    shown = {command for _, _, command in found}
    for match in _INLINE.finditer(rest):
        command = " ".join(match[1].split("\n"))
        if _is_typed(command) and len(command.split()) > MENTION_WORDS and command not in shown:
            found.append((match.start(), "shell", command))
    found.sort(key=lambda one: one[0])
    return [Piece(page, text.count("\n", 0, start) + 1, language, content) for start, language, content in found]


def _blank(match: re.Match[str]) -> str:
    """What was matched, as empty lines, so that the rest keeps its place."""
    return re.sub(r"[^\n]", " ", match[0])


def _is_typed(text: str) -> bool:
    return text.partition(" ")[0].strip() in PROGRAMS


def _block(language: Language, text: str, start: int) -> Iterator[tuple[int, Language, str]]:
    """A block as one piece, or as its commands."""
    if language != "shell":
        yield start, language, text
        return
    shows_output = re.search(r"^\s*\$ ", text, re.MULTILINE) is not None
    begun, begins = "", start
    for line in text.splitlines(keepends=True):
        if not begun:
            begins = start
        start += len(line)
        if not begun and shows_output and not line.lstrip().startswith("$ "):
            continue
        begun += line if begun else line.lstrip().removeprefix("$ ")
        if not begun.rstrip().endswith("\\") and _is_complete(begun):
            if command := _COMMENT.sub("", begun).strip():
                yield begins, language, command
            begun = ""
    assert not begun, f"a command does not end: {begun}"


def _is_complete(text: str) -> bool:
    """Whether every quotation ends."""
    try:
        shlex.split(text, comments=True)
    except ValueError:
        return False
    return True
