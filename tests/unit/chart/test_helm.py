"""How helm is run: with a home of its own, and its words kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plimsoll_cli.chart.helm import Helm, told
from plimsoll_cli.errors import CommandError

PROGRAM = """#!/bin/sh
if [ "$1" = fail ]; then
  echo 'level=INFO msg="found symbolic link in path. Contents used"' >&2
  echo "Error: no" >&2
  exit 1
fi
printf '{"home": "%s", "kubeconfig": "%s", "namespace": "%s", "arguments": "%s", "input": %s}' \\
  "$HELM_CONFIG_HOME" "$KUBECONFIG" "$HELM_NAMESPACE" "$*" "$(cat)"
"""


@pytest.fixture
def helm(tmp_path: Path) -> Helm:
    """A program that tells what it was given."""
    program = tmp_path / "helm"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    return Helm(program, tmp_path / "home", tmp_path / "config")


def test_nothing_of_the_users_own_helm_is_used(helm: Helm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its home nor its namespace nor its cluster."""
    for name in ("HELM_CONFIG_HOME", "HELM_NAMESPACE", "KUBECONFIG"):
        monkeypatch.setenv(name, "mine")
    given = json.loads(helm("install", "a", values={"b": [1]}))
    assert given["home"] == str(helm.home / "helm_config_home")
    assert given["kubeconfig"] == str(helm.kubeconfig)
    assert given["namespace"] == ""
    assert given["arguments"] == "install a --values=-"
    assert given["input"] == {"b": [1]}


def test_a_failure_is_told_without_remarks(helm: Helm) -> None:
    """What went wrong, not which links were followed."""
    with pytest.raises(CommandError, match=r"^helm fail now: Error: no$"):
        helm("fail", "now")
    assert told(helm.attempt("fail")) == "Error: no"
