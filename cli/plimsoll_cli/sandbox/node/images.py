"""Which local program stands in for a container image."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from plimsoll_cli.sandbox.node.config import ImageEntry


class ImageNotFoundError(Exception):
    """No entry of the image map matches: what a registry's `not found` is to a kubelet."""


class ProgramNotFoundError(Exception):
    """The image is known, the program is not in it: what a runtime's `executable file not found` is."""


@dataclass(frozen=True)
class Program:
    """What to run.

    Args:
        arguments: absolute path, then the arguments.
        environment: variables that the image brings.
        nice: scheduling niceness.
        local: how many leading arguments are this machine's own: no volume of the pod hides their paths.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    nice: int = 0
    local: int = 1


def entry_for(image: str, entries: Sequence[ImageEntry]) -> ImageEntry:
    """The first entry whose pattern matches an image; a name without a tag means `:latest`.

    Raises:
        ImageNotFoundError: none does.
    """
    tagged = image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"
    for entry in entries:
        if fnmatchcase(image, entry.pattern) or fnmatchcase(tagged, entry.pattern):
            return entry
    known = ", ".join(entry.pattern for entry in entries) or "none"
    raise ImageNotFoundError(f"no local program stands in for image {image!r}: the sandbox knows {known}")


def program_for(entry: ImageEntry, words: Sequence[str], path: str) -> Program:
    """The local program for a container's expanded command line.

    Args:
        entry: what stands in for its image.
        words: command and args.
        path: PATH to look programs up on.

    Raises:
        ProgramNotFoundError: the image has no such program.
    """
    local, replaced = _replaced(entry, tuple(words))
    if not replaced:
        raise ProgramNotFoundError(f"no command specified, and the entry {entry.pattern!r} has no entrypoint")
    found = _executable(replaced[0], path)
    if found is None:
        raise ProgramNotFoundError(
            f"exec: {words[0] if words else replaced[0]!r}: executable file not found in the image"
        )
    return Program((found, *replaced[1:]), entry.environment, entry.nice, max(local, 1))


def _replaced(entry: ImageEntry, words: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
    """The command line with its leading words replaced, and how many of its words the entry brings."""
    for key in sorted(entry.commands, key=lambda key: len(key.split()), reverse=True):
        leading = tuple(key.split())
        if words[: len(leading)] == leading:
            return len(entry.commands[key]), (*entry.commands[key], *words[len(leading) :])
    if words and not entry.local and words[: len(entry.entrypoint)] != entry.entrypoint:
        known = ", ".join(entry.commands) or "its entrypoint"
        raise ProgramNotFoundError(f"the sandbox does not have {words[0]!r} of image {entry.pattern!r}, only {known}")
    return (len(entry.entrypoint) if words[: len(entry.entrypoint)] == entry.entrypoint else 0), words


def _executable(word: str, path: str) -> str | None:
    """Absolute path of a program: as named, else by its last component on PATH."""
    if os.path.isabs(word) and os.access(word, os.X_OK) and not os.path.isdir(word):
        return word
    return shutil.which(os.path.basename(word), path=path)
