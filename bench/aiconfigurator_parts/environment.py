"""aiconfigurator's own environment: where it is, how it is made, and the kernel tables that it brings."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from plimsoll_runtime.vllm_environment import VllmUnavailableError, cache_directory, find_uv

REQUIREMENT: Final = "aiconfigurator==0.12.0"
"""What is compared with; its database comes with it (about 200 MB)."""

PYTHON_VERSION: Final = "3.11"


class NotInstalledError(Exception):
    """aiconfigurator cannot be had. Its text is one line a person can act on."""


def root(variables: Mapping[str, str]) -> Path:
    """The environment's folder in Plimsoll's cache."""
    return cache_directory(variables) / "environments" / REQUIREMENT.replace("==", "-")


def installed_tables(variables: Mapping[str, str]) -> Path | None:
    """Tables of measured kernels that its package brings (Apache-2.0); None where its environment is not made."""
    inside = f"lib/python{PYTHON_VERSION}/site-packages/aiconfigurator_core/systems/data"
    folder = root(variables) / inside
    return folder if folder.is_dir() else None


def interpreter(variables: Mapping[str, str]) -> Path:
    """Its interpreter; the environment is made now when it is not there.

    Raises:
        NotInstalledError: no uv, or a package that cannot be installed.
    """
    folder = root(variables)
    python, marker = folder / "bin" / "python", folder / ".complete"
    if marker.is_file():
        return python
    try:
        uv = str(find_uv(variables))
    except VllmUnavailableError as error:
        raise NotInstalledError(str(error)) from error
    print(f"  installing {REQUIREMENT} into {folder} (0.7 GB on disk, done once)", file=sys.stderr, flush=True)
    for command in (
        [uv, "venv", "--quiet", "--no-project", "--clear", "--python", PYTHON_VERSION, str(folder)],
        [uv, "pip", "install", "--quiet", "--python", str(python), REQUIREMENT],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = " | ".join(done.stderr.strip().splitlines()[-2:])
            raise NotInstalledError(f"{REQUIREMENT} cannot be installed: {said}")
    marker.write_text(f"{REQUIREMENT}\n")
    return python
