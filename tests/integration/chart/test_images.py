"""What the Dockerfile does, without a container: install one component from the lock, and start its entry point."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CACHE = Path(os.environ.get("PLIMSOLL_CACHE") or Path.home() / ".cache" / "plimsoll")
UV = shutil.which("uv") or str(CACHE / "tools" / "uv" / "bin" / "uv")
SOURCES = ("crds", "recommender", "simulator", "operator", "detector", "runtime", "cli", "locks")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.xdist_group("images")]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the Dockerfile copies, and nothing else."""
    if not os.access(UV, os.X_OK):
        pytest.skip("uv is not here: `make setup` gets it")
    folder = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.mark.parametrize(
    ("extra", "program", "says"),
    [
        ("operator", "plimsoll-operator", "--lease-namespace"),
        ("detector", "plimsoll-detector", "--prometheus-token-file"),
        ("engine", "plimsoll-engine", "--gpu"),
    ],
)
def test_an_image_has_what_its_entry_point_needs(
    extra: str, program: str, says: str, sources: Path, tmp_path: Path
) -> None:
    """Only its own extra is installed, nothing is writable, and a file beside it is not imported."""
    target = tmp_path / "installed"
    environment = {**os.environ, "PATH": f"{Path(UV).parent}:{os.environ['PATH']}", "COMPILE": ""}
    script = [str(sources / "runtime" / "images" / "install.sh"), extra, str(target)]
    done = subprocess.run(script, cwd=sources, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    here = tmp_path / "here"
    here.mkdir()
    (here / "typing.py").write_text("raise SystemExit('the working folder is imported from')")
    here.chmod(stat.S_IRUSR | stat.S_IXUSR)
    safe = {"PATH": f"{target}/bin:/usr/bin:/bin", "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    started = subprocess.run([program, "--help"], cwd=here, env=safe, capture_output=True, text=True, check=False)
    assert started.returncode == 0, started.stderr[-2000:]
    assert says in started.stdout
    assert not list(target.glob("lib/python*/site-packages/plimsoll_*/__pycache__"))


def test_a_changed_package_is_refused(sources: Path, tmp_path: Path) -> None:
    """Control: with other hashes in the lock nothing is installed."""
    lock = sources / "locks" / "dev.txt"
    before = lock.read_text(encoding="utf-8")
    try:
        lock.write_text("".join(_other_hash(line) for line in before.splitlines(keepends=True)), encoding="utf-8")
        environment = {**os.environ, "PATH": f"{Path(UV).parent}:{os.environ['PATH']}", "UV_NO_CACHE": "1"}
        script = [str(sources / "runtime" / "images" / "install.sh"), "detector", str(tmp_path / "installed")]
        done = subprocess.run(script, cwd=sources, env=environment, capture_output=True, text=True, check=False)
    finally:
        lock.write_text(before, encoding="utf-8")
    assert done.returncode != 0
    assert "Hash mismatch" in done.stderr


def _other_hash(line: str) -> str:
    """A line of the lock whose hash is another."""
    head, found, digest = line.partition("--hash=sha256:")
    return f"{head}{found}{'0000' + digest[4:]}" if found else line
