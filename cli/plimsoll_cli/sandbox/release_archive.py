"""Fetch a released binary and check it against the checksum published beside it."""

from __future__ import annotations

import hashlib
import http.client
import io
import platform
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from plimsoll_cli.sandbox.pins import Release

_TIMEOUT_SECONDS: Final = 5.0
"""Silence that counts as unreachable: a build is the alternative, so waiting longer helps nobody."""
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


class UnavailableError(Exception):
    """The release cannot be had here; the message says why, in a few words."""


def fetch(release: Release, output: Path) -> None:
    """Download a release, check it and write the binary to `output`.

    Raises:
        UnavailableError: unreachable, not published for this machine, or the checksum differs.
    """
    names = {"os": "linux", "arch": _ARCHITECTURES.get(platform.machine(), platform.machine())}
    url = release.url.format(**names)
    published = published_checksum(_get(release.checksum_url.format(**names)).decode(), url.rpartition("/")[2])
    content = _get(url)
    found = hashlib.sha256(content).hexdigest()
    if found != published:
        raise UnavailableError(f"{url} has SHA-256 {found}, published is {published}")
    member = release.member
    output.write_bytes(content if member is None else _extract(content, member.format(**names)))
    output.chmod(0o755)


def published_checksum(text: str, file_name: str) -> str:
    """The SHA-256 of a file in a checksum list, or in a file that holds nothing but it.

    Raises:
        UnavailableError: the list does not name the file.
    """
    for line in text.splitlines():
        words = line.split()
        if len(words) == 1 or (len(words) == 2 and words[1].lstrip("*") == file_name):
            return words[0].lower()
    raise UnavailableError(f"no checksum is published for {file_name}")


def _extract(archive: bytes, member: str) -> bytes:
    """One file of a .tar.gz."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as opened:
        try:
            file = opened.extractfile(member)
        except KeyError:
            file = None
        if file is None:
            raise UnavailableError(f"the archive holds no {member}")
        return file.read()


def _get(url: str) -> bytes:
    """The body behind a URL."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 (pinned https addresses)
            body: bytes = answer.read()
            return body
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise UnavailableError(f"{url} does not answer: {reason}") from error
