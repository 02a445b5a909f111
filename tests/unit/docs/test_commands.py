"""Commands that the documentation shows exist, with the options it gives them. Nothing is run."""

from __future__ import annotations

import importlib.util
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from plimsoll_cli.__main__ import plimsoll

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "charts" / "plimsoll" / "README.md"])
FENCED = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"^ {4}(?:\$ )?((?:plimsoll|kubectl|helm|make|python) (?:\\\n|[^\n])*)", re.MULTILINE)
VALUES = yaml.safe_load((ROOT / "charts" / "plimsoll" / "values.yaml").read_text(encoding="utf-8"))
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
SEPARATORS = {"|", "&&", "||", ";", "&"}


def commands(text: str) -> Iterator[list[str]]:
    """Every simple command of a page's shell blocks, in words."""
    for block in [*FENCED.findall(text), *INDENTED.findall(text)]:
        begun = ""
        for line in block.replace("\\\n", " ").splitlines():
            begun = f"{begun}\n{line}" if begun else line.strip().removeprefix("$ ")
            try:
                words = split(begun)
            except ValueError:
                continue  # a quotation that ends on a later line
            begun = ""
            yield from words
        assert not begun, f"a quotation does not end: {begun}"


def split(line: str) -> list[list[str]]:
    """The simple commands of one line.

    Raises:
        ValueError: a quotation does not end.
    """
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split = True
    groups = itertools.groupby(lexer, lambda word: word in SEPARATORS)
    return [list(words) for is_separator, words in groups if not is_separator]


def why_not(words: list[str]) -> str | None:
    """What is wrong with a command; None when nothing is, or when it is not ours to judge."""
    words = words[next((i for i, word in enumerate(words) if not re.fullmatch(r"[A-Z_]+=.*", word)), 0) :]
    match words:
        case ["plimsoll", "sandbox", "exec", *rest] if "--" in rest:
            cut = rest.index("--")
            return why_not_click(["sandbox", "exec", *rest[:cut], "--", "true"]) or why_not(rest[cut + 1 :])
        case ["plimsoll", *rest] | ["kubectl", "plimsoll", *rest]:
            return why_not_click(rest)
        case ["kubectl", "apply", *rest]:
            return why_not_file(rest)
        case ["make", target, *_]:
            return None if target in TARGETS else f"the Makefile has no target {target}"
        case ["python", "-m", module, *_]:
            return None if importlib.util.find_spec(module) else f"there is no module {module}"
        case ["helm", "install" | "upgrade", *rest]:
            return why_not_values(rest)
        case _:
            return None


def why_not_click(words: list[str]) -> str | None:
    """Parse as click would, down the tree, without calling anything."""
    command: click.Command = plimsoll
    parent: click.Context | None = None
    while isinstance(command, click.Group):
        parent = click.Context(command, info_name=command.name, parent=parent)
        if not words or words[0] in ("--help", "--version"):
            return None
        found = command.get_command(parent, words[0])
        if found is None:
            return f"`{parent.command_path}` has no command {words[0]}"
        command, words = found, words[1:]
    try:
        given = command.make_context(command.name, list(words), parent=parent).params
    except click.exceptions.Exit:
        return None
    except click.UsageError as error:
        # Files that a page names need not be here.
        return None if "does not exist" in error.message else error.format_message()
    if command.name == "load" and not given["service"] and (given["shape"] is None) == (given["trace"] is None):
        return "give either --shape or --trace"
    return None


def why_not_file(words: list[str]) -> str | None:
    """A file of this repository that `kubectl apply -f` is given must be there."""
    files = [word for flag, word in itertools.pairwise(words) if flag == "-f"]
    missing = [
        name for name in files if name.startswith(("examples/", "charts/", "crds/")) and not (ROOT / name).exists()
    ]
    return f"no file {', '.join(missing)}" if missing else None


def why_not_values(words: list[str]) -> str | None:
    """Keys given to `--set` must be values of the chart."""
    if not any(word.endswith("charts/plimsoll") for word in words):
        return None
    given = [word for flag, word in itertools.pairwise(words) if flag in ("--set", "--set-string")]
    for key in (word.partition("=")[0] for word in given):
        here: Any = VALUES
        for part in key.replace("\\.", "\0").split("."):
            part = part.partition("[")[0]
            if here in ({}, []):
                break
            if part not in here:
                return f"the chart has no value {key}"
            here = here[part]
    return None


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages speak from the repository's root."""
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page: Path) -> None:
    found = list(commands(page.read_text(encoding="utf-8")))
    assert [f"{shlex.join(words)}: {why}" for words in found if (why := why_not(words)) is not None] == []


def test_the_quickstart_has_commands() -> None:
    text = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    first = {words[0] for words in commands(text)}
    assert {"make", "plimsoll", "kubectl", "helm"} <= first


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("plimsoll recomend", "has no command recomend"),
        ("plimsoll sandbox open", "has no command open"),
        ("plimsoll recommend --model m --gpus L4", "No such option"),
        ("plimsoll status --output picture", "'picture' is not one of"),
        ("kubectl plimsoll explain", "Missing argument"),
        ("plimsoll load --url http://127.0.0.1:8000 --rate 5", "give either --shape or --trace"),
        ("plimsoll sandbox exec -- kubectl plimsoll tops", "has no command tops"),
        ("kubectl apply -f examples/none.yaml", "no file examples/none.yaml"),
        ("make dem", "no target dem"),
        ("helm install plimsoll charts/plimsoll --set prometheus.uri=x", "no value prometheus.uri"),
        ("FOO=1 plimsoll demo --engin vllm", "No such option"),
    ],
)
def test_a_wrong_command_is_noticed(line: str, complaint: str) -> None:
    """Control: the test above can fail."""
    (words,) = commands(f"```sh\n{line}  # a comment\n```\n")
    assert complaint in (why_not(words) or "")


def test_lines_are_read_as_a_shell_reads_them() -> None:
    text = "```sh\nhelm install a \\\n  --set b=c && kubectl get llm | cat # end\n```\n\n    plimsoll top -A\n"
    assert list(commands(text)) == [
        ["helm", "install", "a", "--set", "b=c"],
        ["kubectl", "get", "llm"],
        ["cat"],
        ["plimsoll", "top", "-A"],
    ]
