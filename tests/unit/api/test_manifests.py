"""Identities and roles: least privilege, and every verb says what it is for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

MANIFESTS = sorted((Path(__file__).resolve().parents[3] / "cli" / "plimsoll_cli" / "manifests").glob("*.yaml"))
ROLES = [
    (path.name, document)
    for path in MANIFESTS
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    if document["kind"] in ("Role", "ClusterRole")
]
COMPONENT_ROLES = [(name, role) for name, role in ROLES if not role["metadata"]["name"].endswith(("-view", "-edit"))]


def uncommented_verbs(text: str) -> list[str]:
    """Lines that grant a verb without saying what for."""
    bad: list[str] = []
    verbs_indent: int | None = None
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        if re.match(r"\s*verbs:", line):
            verbs_indent = indent
            if line.strip() != "verbs:":
                bad.append(line)
        elif verbs_indent is not None and indent > verbs_indent:
            if not re.match(r"\s*- [a-z]+ # \S.*", line):
                bad.append(line)
        else:
            verbs_indent = None
    return bad


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_every_verb_says_what_it_is_for(path: Path) -> None:
    assert uncommented_verbs(path.read_text(encoding="utf-8")) == []


def test_a_verb_without_a_reason_is_found() -> None:
    assert uncommented_verbs("rules:\n  - resources: [pods]\n    verbs: [get]\n") == ["    verbs: [get]"]
    assert uncommented_verbs("rules:\n  - resources: [pods]\n    verbs:\n      - get\n") == ["      - get"]


@pytest.mark.parametrize(("file", "role"), ROLES, ids=[role["metadata"]["name"] for _, role in ROLES])
def test_no_role_has_a_wildcard(file: str, role: dict[str, Any]) -> None:
    for rule in role["rules"]:
        assert "*" not in rule["apiGroups"] + rule["resources"] + rule["verbs"]


@pytest.mark.parametrize(
    ("file", "role"), COMPONENT_ROLES, ids=[role["metadata"]["name"] for _, role in COMPONENT_ROLES]
)
def test_no_component_reads_a_secret_or_makes_a_service(file: str, role: dict[str, Any]) -> None:
    for rule in role["rules"]:
        assert "secrets" not in rule["resources"]
        if "llmservices" in rule["resources"]:
            assert not {"create", "update", "delete", "deletecollection"} & set(rule["verbs"])


def test_every_role_is_bound_to_an_account_that_exists() -> None:
    documents = [d for path in MANIFESTS for d in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
    accounts = {(d["metadata"]["namespace"], d["metadata"]["name"]) for d in documents if d["kind"] == "ServiceAccount"}
    bindings = [d for d in documents if d["kind"].endswith("Binding")]
    assert {b["roleRef"]["name"] for b in bindings} == {role["metadata"]["name"] for _, role in COMPONENT_ROLES}
    for binding in bindings:
        for subject in binding["subjects"]:
            assert (subject["namespace"], subject["name"]) in accounts
