"""Build a pinned Go program, and find the folder of a Go module."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from plimsoll_cli.errors import CommandError
from plimsoll_cli.sandbox.pins import Binary, Module

GO_VERSION: Final = "1.26.0"
"""The `go` line of the modules made here: what Kubernetes 1.36 asks for."""
_BUILD_ENVIRONMENT: Final = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOWORK": "off"}
_OUTPUT_SHOWN: Final = 1200
"""Characters of a failed command's output that are shown."""


def module_file(module: Module, required: str) -> str:
    """The go.mod of a module of our own that requires the pinned one and names its programs as tools.

    Args:
        module: the pinned module.
        required: text of the pinned module's own go.mod, where its staging modules are found: those it requires at
            v0.0.0, which exist only in its source tree and are published under another version.
    """
    lines = [
        f"module plimsoll.dev/sandbox/{module.path}",
        f"go {GO_VERSION}",
        f"require {module.path} {module.version}",
    ]
    if module.staging is not None:
        prefix, version = module.staging
        staged = re.findall(rf"^\s+({re.escape(prefix)}\S+) v0\.0\.0$", required, re.MULTILINE)
        lines += [f"replace {name} => {name} {version}" for name in staged]
    lines += [f"tool {package}" for package in module.packages]
    return "\n".join(lines) + "\n"


def build_key(binary: Binary) -> str:
    """Twelve hexadecimal digits that change when anything that goes into a build changes."""
    module = binary.module
    parts = [module.path, module.version, binary.package, module.linker_flags, module.tags, GO_VERSION]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def build(binary: Binary, workspace: Path, output: Path) -> None:
    """Build one program.

    Args:
        binary: what to build.
        workspace: folder for the module made here; reused by programs of the same module.
        output: where the program goes.

    Raises:
        CommandError: Go is missing, or the build fails.
    """
    module = binary.module
    workspace.mkdir(parents=True, exist_ok=True)
    required = Path(download(module.path, module.version)["GoMod"]).read_text(encoding="utf-8")
    wanted = module_file(module, required)
    stamp = workspace / "go.mod.wanted"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        (workspace / "go.mod").write_text(wanted, encoding="utf-8")
        _go("mod", "tidy", directory=workspace)
        stamp.write_text(wanted, encoding="utf-8")
    tags = ["-tags", module.tags] if module.tags else []
    flags = ["-trimpath", *tags, "-ldflags", module.linker_flags]
    _go("build", *flags, "-o", str(output), binary.package, directory=workspace)


def download(path: str, version: str) -> dict[str, Any]:
    """What `go mod download -json` says of a module: `Dir`, `GoMod` and more.

    Raises:
        CommandError: Go is missing, or the module cannot be fetched.
    """
    answer: dict[str, Any] = json.loads(_go("mod", "download", "-json", f"{path}@{version}", directory=Path("/")))
    return answer


def _go(*arguments: str, directory: Path) -> str:
    """Run the Go command and return what it prints."""
    program = shutil.which("go")
    if program is None:
        raise CommandError(f"the Go toolchain ({GO_VERSION} or newer) is not on PATH", 3)
    done = subprocess.run(
        [program, *arguments],
        cwd=directory,
        env={**os.environ, **_BUILD_ENVIRONMENT},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-_OUTPUT_SHOWN:]
        raise CommandError(f"`go {' '.join(arguments[:2])}` failed: {said}", 3)
    return done.stdout
