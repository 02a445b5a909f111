"""Commands that the documentation shows exist, with the options it gives them. tests/e2e runs them; here none is."""

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

from documentation.pages import PAGES, ROOT, Piece, pieces, read
from plimsoll_cli.__main__ import plimsoll

VALUES = yaml.safe_load((ROOT / "charts" / "plimsoll" / "values.yaml").read_text(encoding="utf-8"))
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
MENTIONED = (
    ["plimsoll", "load", "--service"],
    ["plimsoll", "recommend", "--observed"],
    ["plimsoll", "recommend", "--mix-accelerators"],
)
"""An option by its name, without what it takes."""
SEPARATORS = {"|", "&&", "||", ";", "&"}


def commands(found: list[Piece]) -> Iterator[list[str]]:
    """Every simple command of a page, in words."""
    for piece in found:
        if piece.language == "shell":
            yield from split(piece.text.replace("\\\n", " "))


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
        case ["python", "-m", "bench", name, *_]:
            return None if (ROOT / "bench" / f"{name}.py").is_file() else f"there is no benchmark {name}"
        case ["python", "-m", module, *_] if module.startswith("bench."):
            return None if (ROOT / f"{module.replace('.', '/')}.py").is_file() else f"there is no module {module}"
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
    found = [words for words in commands(pieces(page)) if words not in MENTIONED]
    assert [f"{shlex.join(words)}: {why}" for words in found if (why := why_not(words)) is not None] == []


def test_the_quickstart_has_commands() -> None:
    first = {words[0] for words in commands(pieces(ROOT / "docs" / "quickstart.md"))}
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
        ("python -m bench serch", "no benchmark serch"),
        ("helm install plimsoll charts/plimsoll --set prometheus.uri=x", "no value prometheus.uri"),
        ("FOO=1 plimsoll demo --engin vllm", "No such option"),
    ],
)
def test_a_wrong_command_is_noticed(line: str, complaint: str) -> None:
    """Control: the test above can fail."""
    (words,) = commands(read(f"```sh\n{line}  # a comment\n```\n", "page"))
    assert complaint in (why_not(words) or "")


def test_a_page_is_read_as_a_person_reads_it() -> None:
    text = (
        "# Page\n\n```sh\nhelm install a \\\n  --set b=c && kubectl get llm | cat # end\n```\n\n    plimsoll top -A\n\n"
        "Not `kubectl get`, but `kubectl get\nnodes -w`. <!-- `kubectl get nothing at all` -->\n\n"
        "    $ kubectl get llm\n    NAME   MODEL\n\n```console\n$ kubectl get -o jsonpath='{\n}'\n```\n"
        "```python\nplimsoll\n```\n"
    )
    found = read(text, "page")
    assert [(piece.line, piece.language) for piece in found] == [
        (4, "shell"), (8, "shell"), (10, "shell"), (13, "shell"), (17, "shell"), (21, "python"),
    ]  # fmt: skip
    assert list(commands(found)) == [
        ["helm", "install", "a", "--set", "b=c"],
        ["kubectl", "get", "llm"],
        ["cat"],
        ["plimsoll", "top", "-A"],
        ["kubectl", "get", "nodes", "-w"],
        ["kubectl", "get", "llm"],
        ["kubectl", "get", "-o", "jsonpath={\n}"],
    ]
