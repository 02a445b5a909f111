"""The environment of vLLM's CPU build: made once, from a lock with hashes, in the cache.

vLLM brings torch and some 160 more packages, pinned to versions of its own; they stay out of Plimsoll's environment.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PYTHON_VERSION: Final = "3.11"
"""Python of the environment. vLLM 0.32 supports 3.11 and newer; the lock was made for this one."""

LOCK_FILE: Final = "vllm-cpu.txt"

LOCK_VARIABLE: Final = "PLIMSOLL_VLLM_LOCK"
"""Environment variable with the path of a lock to use instead of the checkout's."""

CPU_VARIABLES: Final[Mapping[str, str]] = {
    # GiB of KV cache; without it vLLM asks for 92 % of the machine's memory.
    "VLLM_CPU_KVCACHE_SPACE": "1",
    # Nothing is downloaded: the model is a directory.
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    # No usage statistics to a server elsewhere.
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    # Threads are not bound to cores, or the replicas of a small machine would all be bound to the same ones.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # One thread: the tiny model's matrices are smaller than the cost of sharing them out.
    "OMP_NUM_THREADS": "1",
}
"""Environment variables that vLLM's CPU build is run with.

With them `--enforce-eager` serves completions, chats and batches of eight (tests/contract runs so).
It starts sooner for lack of a compilation."""

_MARKER: Final = ".complete"


class VllmUnavailableError(Exception):
    """vLLM's CPU build cannot be had. Its text is one line a person can act on."""


@dataclass(frozen=True)
class VllmEnvironment:
    """An environment in which vLLM's CPU build can be run.

    Args:
        root: the environment's folder.
        python: its interpreter.
        lock: the lock it was made from.
    """

    root: Path
    python: Path
    lock: Path

    def command(self, model: str | Path, *flags: str) -> list[str]:
        """Arguments that serve a model. The `vllm` program of vllm-cpu 0.32.0 dies looking for its own package, so the
        module is run."""
        return [str(self.python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), *flags]

    def variables(self, environment: Mapping[str, str]) -> dict[str, str]:
        """An environment for such a process: the given one, and `CPU_VARIABLES` where it does not say otherwise."""
        return {
            **CPU_VARIABLES,
            **environment,
            "PATH": f"{self.python.parent}{os.pathsep}{environment.get('PATH', '')}",
        }


def cache_directory(environment: Mapping[str, str]) -> Path:
    """$PLIMSOLL_CACHE, else $XDG_CACHE_HOME/plimsoll, else ~/.cache/plimsoll."""
    if chosen := environment.get("PLIMSOLL_CACHE"):
        return Path(chosen)
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plimsoll"


def lock_file(environment: Mapping[str, str]) -> Path:
    """The lock: `$PLIMSOLL_VLLM_LOCK`, else `locks/vllm-cpu.txt` of the checkout this file is in or one that holds the
    working directory.

    Raises:
        VllmUnavailableError: there is none.
    """
    if chosen := environment.get(LOCK_VARIABLE):
        path = Path(chosen)
        if not path.is_file():
            raise VllmUnavailableError(f"{LOCK_VARIABLE}={chosen} is not a file: name the lock of vllm-cpu")
        return path
    here = Path(__file__).resolve()
    for folder in (*here.parents, Path.cwd(), *Path.cwd().parents):
        path = folder / "locks" / LOCK_FILE
        if path.is_file():
            return path
    raise VllmUnavailableError(
        f"locks/{LOCK_FILE} is not here, and an installed package does not carry it: "
        f"run in a checkout of Plimsoll or set {LOCK_VARIABLE} to a copy of it"
    )


def find_uv(environment: Mapping[str, str]) -> Path:
    """uv: the one `make` put in the cache, else the one on PATH.

    Raises:
        VllmUnavailableError: there is none.
    """
    cached = cache_directory(environment) / "tools" / "uv" / "bin" / "uv"
    if cached.is_file():
        return cached
    if found := shutil.which("uv", path=environment.get("PATH")):
        return Path(found)
    raise VllmUnavailableError(f"uv is neither at {cached} nor on PATH: run `make setup` or `pip install uv`")


def ensure(environment: Mapping[str, str] | None = None, say: Callable[[str], None] | None = None) -> VllmEnvironment:
    """The environment, made now when it is not there (5.9 GB on disk; seconds to minutes, as the network is).

    Args:
        environment: environment variables; this process's own by default.
        say: told what is being done, a line at a time; stderr by default.

    Raises:
        VllmUnavailableError: no uv, no lock, or a package that cannot be installed.
    """
    variables = os.environ if environment is None else environment
    tell = say or _to_stderr
    lock = lock_file(variables)
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    root = cache_directory(variables) / "vllm-cpu" / digest
    made = VllmEnvironment(root=root, python=root / "bin" / "python", lock=lock)
    if (root / _MARKER).is_file():
        return made
    uv = find_uv(variables)
    with _exclusive(root.with_suffix(".lock"), tell):
        if not (root / _MARKER).is_file():
            _build(uv, made, variables, tell)
    return made


def _build(uv: Path, made: VllmEnvironment, environment: Mapping[str, str], tell: Callable[[str], None]) -> None:
    began = time.monotonic()
    tell(f"installing vLLM's CPU build into {made.root} (5.9 GB on disk, done once)")
    _run(
        [str(uv), "venv", "--quiet", "--no-project", "--clear", "--python", PYTHON_VERSION, str(made.root)], environment
    )
    tell("downloading and linking packages (torch is the largest)")
    _run(
        [str(uv), "pip", "sync", "--quiet", "--python", str(made.python), "--require-hashes", str(made.lock)],
        environment,
    )
    (made.root / _MARKER).write_text(f"{made.lock.name}\n")
    tell(f"vLLM's CPU build is ready after {time.monotonic() - began:.0f} s")


def _run(command: list[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = " | ".join((done.stderr or done.stdout).strip().splitlines()[-4:])
        raise VllmUnavailableError(f"`{' '.join(command[:3])}` failed with {done.returncode}: {said}")


@contextmanager
def _exclusive(path: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold a file lock, so that two processes never make the same environment at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            tell("waiting for another process that is installing vLLM's CPU build")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _to_stderr(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)


def main() -> int:
    """Make the environment and print its interpreter."""
    try:
        print(ensure().python)
    except VllmUnavailableError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
