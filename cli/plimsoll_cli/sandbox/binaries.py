"""Find, fetch or build the programs that the sandbox runs.

In this order: $KUBEBUILDER_ASSETS, $PATH, the cache, the project's release archive, `go build` of the pinned module.
An installed program of an unusable version is passed over, and the reason is told when nothing else helps.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from plimsoll_cli.errors import CommandError
from plimsoll_cli.sandbox import go_build, pins, progress, release_archive
from plimsoll_cli.sandbox.neighbours import NEIGHBOURS
from plimsoll_cli.sandbox.pins import BINARIES, Binary, Version
from plimsoll_runtime.vllm_environment import cache_directory

_VERSION_TIMEOUT_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Found:
    """Where a program was found, and what was passed over on the way.

    Args:
        path: the program.
        source: which step found it: `KUBEBUILDER_ASSETS`, `PATH`, `cache`, `release` or `build`.
        passed_over: why earlier candidates were not used.
    """

    path: Path
    source: str
    passed_over: tuple[str, ...] = ()


def resolve(name: str) -> Path:
    """The path of a program, fetched or built when it must be.

    Raises:
        CommandError: the name is unknown, or no way to get it worked.
    """
    return find(name).path


def find(name: str) -> Found:
    """Like `resolve`, with where it came from.

    Raises:
        CommandError: the name is unknown, or no way to get it worked.
    """
    binary = BINARIES.get(name) or NEIGHBOURS.get(name)
    if binary is None:
        raise CommandError(f"{name} is not a program of the sandbox: it runs {', '.join(BINARIES)}", 2)
    found, passed_over = installed(binary, os.environ)
    if found is not None:
        return found
    cached = cache_path(binary, os.environ)
    if cached.exists():
        return Found(cached, "cache", tuple(passed_over))
    with _lock(cached.parent.parent / f".{binary.name}.lock"):
        if cached.exists():  # another process got it while this one waited
            return Found(cached, "cache", tuple(passed_over))
        source = _obtain(binary, cached, passed_over)
    return Found(cached, source, tuple(passed_over))


def installed(binary: Binary, environment: Mapping[str, str]) -> tuple[Found | None, list[str]]:
    """A usable program in $KUBEBUILDER_ASSETS or on $PATH, and why others were passed over."""
    passed_over: list[str] = []
    places = [("KUBEBUILDER_ASSETS", environment.get("KUBEBUILDER_ASSETS", "")), ("PATH", environment.get("PATH", ""))]
    for source, folders in places:
        candidate = shutil.which(binary.name, path=folders) if folders else None
        if candidate is None:
            continue
        reason = unusable(binary, Path(candidate))
        if reason is None:
            return Found(Path(candidate), source, tuple(passed_over)), passed_over
        passed_over.append(reason)
    return None, passed_over


@cache
def unusable(binary: Binary, candidate: Path) -> str | None:
    """Why an installed program cannot be used; None when it can."""
    try:
        done = subprocess.run(
            [str(candidate), *binary.version_arguments],
            capture_output=True,
            text=True,
            timeout=_VERSION_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{candidate} does not tell its version: {error}"
    version = pins.parse_version(done.stdout + done.stderr)
    if version is None:
        return f"{candidate} does not tell its version"
    lowest, too_high = binary.accepts
    if lowest <= version < too_high:
        return None
    return f"{candidate} is {dotted(version)}, needed is {dotted(lowest)} or newer, below {dotted(too_high)}"


def cache_path(binary: Binary, environment: Mapping[str, str]) -> Path:
    """Where the cache keeps a program: keyed by version and everything that goes into its build."""
    folder = f"{binary.name}-{binary.module.version}-{go_build.build_key(binary)}"
    return cache_directory(environment) / "bin" / folder / binary.name


def module_directory(path: str, version: str) -> Path:
    """The folder of a Go module's source, downloaded when it must be.

    Raises:
        CommandError: Go is missing, or the module cannot be fetched.
    """
    with progress.step(f"fetching {path} {version}"):
        return Path(go_build.download(path, version)["Dir"])


def dotted(version: Version) -> str:
    """A version as people write it."""
    return ".".join(map(str, version))


def _obtain(binary: Binary, target: Path, passed_over: list[str]) -> str:
    """Fetch or build a program into the cache; returns which of the two it was."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{binary.name}.{os.getpid()}")
    try:
        try:
            if binary.release is None:
                raise release_archive.UnavailableError(f"{binary.module.path} publishes no program, only images")
            with progress.step(f"fetching {binary.name} {binary.module.version}"):
                release_archive.fetch(binary.release, partial)
            source = "release"
        except release_archive.UnavailableError as reason:
            passed_over.append(str(reason))
            _build(binary, partial, passed_over)
            source = "build"
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
    return source


def _build(binary: Binary, output: Path, passed_over: list[str]) -> None:
    """Build a program; when that fails too, tell everything that was tried."""
    workspace = cache_directory(os.environ) / "modules" / binary.module.path.replace("/", "_") / binary.module.version
    text = f"building {binary.name} {binary.module.version} (up to {binary.build_minutes:g} min the first time)"
    try:
        # One lock per module: its programs share a go.mod that `go mod tidy` writes.
        with progress.step(text), _lock(workspace.with_suffix(".lock")):
            go_build.build(binary, workspace, output)
    except CommandError as error:
        tried = "".join(f"\n  passed over: {reason}" for reason in passed_over)
        raise CommandError(f"cannot get {binary.name} {binary.module.version}: {error}{tried}", 3) from error


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a file lock, so that two processes never build the same thing at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
