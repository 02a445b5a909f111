"""Merging a person's pod template over the operator's."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll_operator.manifests.strategic_merge import merge_pod_template

BASE: dict[str, Any] = {
    "metadata": {"labels": {"a": "1"}},
    "spec": {
        "containers": [
            {
                "name": "engine",
                "image": "vllm",
                "env": [{"name": "HOME", "value": "/home"}, {"name": "X", "value": "1"}],
                "ports": [{"name": "http", "containerPort": 8000}],
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                "args": ["m", "--a"],
                "securityContext": {"capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True},
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    },
}


def merged(spec: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = merge_pod_template(BASE, {"spec": spec})["spec"]
    return result


def engine(container: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = merged({"containers": [{"name": "engine", **container}]})["containers"][0]
    return result


def test_a_container_is_merged_by_name_and_a_sidecar_added() -> None:
    containers = merged({"containers": [{"name": "engine", "image": "mine"}, {"name": "proxy", "image": "p"}]})[
        "containers"
    ]
    assert [(c["name"], c["image"]) for c in containers] == [("engine", "mine"), ("proxy", "p")]
    assert containers[0]["args"] == ["m", "--a"]


def test_env_is_merged_by_name() -> None:
    env = engine({"env": [{"name": "X", "value": "2"}, {"name": "Y", "value": "3"}]})["env"]
    assert env == [{"name": "HOME", "value": "/home"}, {"name": "X", "value": "2"}, {"name": "Y", "value": "3"}]


def test_mounts_ports_and_volumes_are_merged_by_their_keys() -> None:
    container = engine(
        {
            "volumeMounts": [{"name": "other", "mountPath": "/tmp"}, {"name": "x", "mountPath": "/x"}],
            "ports": [{"containerPort": 8000, "hostPort": 80}, {"containerPort": 9000}],
        }
    )
    assert container["volumeMounts"] == [{"name": "other", "mountPath": "/tmp"}, {"name": "x", "mountPath": "/x"}]
    assert container["ports"] == [{"name": "http", "containerPort": 8000, "hostPort": 80}, {"containerPort": 9000}]
    volumes = merged({"volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}, {"name": "n"}]})["volumes"]
    assert volumes == [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}, {"name": "n"}]


def test_tolerations_are_added() -> None:
    mine = {"key": "spot", "operator": "Exists"}
    assert merged({"tolerations": [mine]})["tolerations"] == [*BASE["spec"]["tolerations"], mine]
    assert merged({"tolerations": BASE["spec"]["tolerations"]})["tolerations"] == BASE["spec"]["tolerations"]


def test_other_lists_are_replaced() -> None:
    assert engine({"args": ["other"]})["args"] == ["other"]


def test_null_removes_a_field() -> None:
    security = engine({"securityContext": {"readOnlyRootFilesystem": None}})["securityContext"]
    assert security == {"capabilities": {"drop": ["ALL"]}}


@pytest.mark.parametrize(
    ("patch", "names"),
    [
        ([{"name": "HOME", "$patch": "delete"}], ["X"]),
        ([{"$patch": "replace"}, {"name": "Z", "value": "1"}], ["Z"]),
    ],
)
def test_patch_directives(patch: list[dict[str, Any]], names: list[str]) -> None:
    assert [item["name"] for item in engine({"env": patch})["env"]] == names


def test_a_map_can_be_replaced_whole() -> None:
    assert engine({"securityContext": {"$patch": "replace", "privileged": True}})["securityContext"] == {
        "privileged": True
    }


values = st.recursive(
    st.integers() | st.text(max_size=3) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcdef"), inner, max_size=3),
    max_leaves=8,
)
templates = st.dictionaries(st.sampled_from("abcdef"), values, max_size=4)


@given(templates)
def test_merging_nothing_changes_nothing(base: dict[str, Any]) -> None:
    assert merge_pod_template(base, {}) == base


@given(templates, templates)
def test_merging_twice_is_merging_once_and_arguments_stay(base: dict[str, Any], partial: dict[str, Any]) -> None:
    before = copy.deepcopy((base, partial))
    once = merge_pod_template(base, partial)
    assert merge_pod_template(once, partial) == once
    assert (base, partial) == before


@given(templates)
def test_what_is_asked_is_there(partial: dict[str, Any]) -> None:
    result = merge_pod_template({}, partial)
    assert result == partial
