"""Paths inside a container and where they lie on this machine.

A process has no mount namespace of its own, so a path below a mount's path is replaced where the container is told it:
in command, args, environment and probes. A program that has such a path compiled in does not see the mount.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Mount:
    """A mount: the path in the container, and the file or folder it is on this machine."""

    path: str
    target: str


def rewrite(text: str, mounts: Iterable[Mount]) -> str:
    """Replace every path at or below a mount's path; the longest mount path wins.

    A path begins where no word character, dot, slash or hyphen stands before it, and a mount's path ends at a slash or
    where no such character follows: `/data` is found in `--dir=/data/x` and `cat /data`, not in `/data2`.
    """
    targets = {mount.path.rstrip("/"): mount.target for mount in mounts if mount.path.rstrip("/")}
    if not targets:
        return text
    alternatives = "|".join(re.escape(path) for path in sorted(targets, key=len, reverse=True))
    # A dot may end a sentence or begin an extension; only the second makes it another path.
    found = re.compile(rf"(?<![\w./-])({alternatives})(?=/|$|[^\w.-]|\.(?!\w))")
    return found.sub(lambda match: targets[match.group(1)], text)


def rewrite_all(words: Sequence[str], mounts: Sequence[Mount]) -> tuple[str, ...]:
    """`rewrite` of every word."""
    return tuple(rewrite(word, mounts) for word in words)
