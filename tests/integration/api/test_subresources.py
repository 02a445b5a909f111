"""Status and scale: who may write what, and what the other does not touch."""

from __future__ import annotations

from typing import Any

import pytest

from plimsoll_api import names

pytestmark = [pytest.mark.api_server, pytest.mark.xdist_group("control_plane")]


def condition(kind: str, status: str = "True") -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": "Test",
        "message": "for a test",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }


def with_status(status: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": "chat"}, "status": status}


def test_two_managers_share_the_conditions(api: Any, service: Any) -> None:
    assert api.create(service(), dry_run=False).accepted
    operator, detector = names.FieldManager.OPERATOR, names.FieldManager.DETECTOR_STATUS
    api.apply(
        with_status({"conditions": [condition("Available"), condition("Accepted")]}), operator, subresource="status"
    )
    answer = api.apply(with_status({"conditions": [condition("Degraded", "False")]}), detector, subresource="status")
    assert answer.accepted, answer.message
    assert {c["type"] for c in answer.body["status"]["conditions"]} == {"Available", "Accepted", "Degraded"}

    answer = api.apply(with_status({"conditions": [condition("Available", "False")]}), operator, subresource="status")
    kept = {c["type"]: c["status"] for c in answer.body["status"]["conditions"]}
    assert kept == {"Available": "False", "Degraded": "False"}, "a manager removes only what it had applied itself"


def test_a_second_manager_cannot_take_a_condition_unnoticed(api: Any, service: Any) -> None:
    assert api.create(service(), dry_run=False).accepted
    api.apply(with_status({"conditions": [condition("Available")]}), "one", subresource="status")
    answer = api.apply(with_status({"conditions": [condition("Available", "False")]}), "two", subresource="status")
    assert answer.code == 409
    assert 'conflict with "one"' in answer.message


def test_the_same_status_again_changes_nothing(api: Any, service: Any) -> None:
    assert api.create(service(), dry_run=False).accepted
    versions = [
        api.apply(
            with_status({"replicas": 2, "conditions": [condition("Available")]}), "one", subresource="status"
        ).body["metadata"]["resourceVersion"]
        for _ in range(2)
    ]
    assert versions[0] == versions[1]


def test_the_status_does_not_change_with_the_object_nor_the_spec_with_the_status(api: Any, service: Any) -> None:
    made = api.create({**service(), "status": {"replicas": 7}}, dry_run=False).body
    assert "status" not in made
    changed = {**made, "spec": {**made["spec"], "paused": True}, "status": {"replicas": 7}}
    assert "status" not in api.update(changed).body
    answer = api.update(changed, subresource="status", dry_run=False)
    assert answer.body["status"] == {"replicas": 7}
    assert answer.body["spec"]["paused"] is False
    assert answer.body["metadata"]["generation"] == made["metadata"]["generation"]


def scale_of(api: Any, replicas: int) -> dict[str, Any]:
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {"name": "chat", "namespace": api.namespace},
        "spec": {"replicas": replicas},
    }


def seed(replicas: int) -> dict[str, Any]:
    """The operator's first value: `spec.replicas` alone, applied on the object itself."""
    document = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": "chat"}}
    return {**document, "spec": {"replicas": replicas}}


def owners(api: Any) -> dict[str, str]:
    """Who owns `spec.replicas`, and through what they wrote it."""
    return {
        entry["manager"]: entry.get("subresource", "")
        for entry in api.get("chat").body["metadata"]["managedFields"]
        if "f:replicas" in entry["fieldsV1"].get("f:spec", {})
    }


def test_scale_reads_the_status_and_writes_the_spec(api: Any, service: Any) -> None:
    assert api.create(service({"replicas": 1}), dry_run=False).accepted
    api.apply(with_status({"replicas": 2, "selector": "plimsoll.dev/service=chat"}), "one", subresource="status")
    assert api.get("chat", "scale").body["status"] == {"replicas": 2, "selector": "plimsoll.dev/service=chat"}
    answer = api.update(scale_of(api, 5), subresource="scale", dry_run=False)
    assert answer.accepted, answer.message
    assert api.get("chat").body["spec"]["replicas"] == 5


def test_scale_has_the_bounds_of_the_spec(api: Any, service: Any) -> None:
    assert api.create(service(), dry_run=False).accepted
    answer = api.update(scale_of(api, 1001), subresource="scale")
    assert answer.code == 422
    assert "spec.replicas" in answer.message


def test_scale_cannot_be_read_before_there_are_replicas_but_written(api: Any, service: Any) -> None:
    assert api.create(service(), dry_run=False).accepted
    assert api.get("chat", "scale").code == 500
    assert api.merge_scale("chat", 3, "somebody").accepted
    assert api.get("chat", "scale").body["spec"] == {"replicas": 3}


def test_scale_cannot_be_applied(api: Any, service: Any) -> None:
    """A trait of custom resources in Kubernetes; when it goes, the writers may use server-side apply."""
    assert api.create(service({"replicas": 1}), dry_run=False).accepted
    assert api.apply(scale_of(api, 3), names.FieldManager.DETECTOR, subresource="scale", force=True).code == 500


def test_a_first_write_through_scale_has_no_recorded_owner(api: Any, service: Any) -> None:
    """The trait that the seed exists for (kubernetes/kubernetes#131892)."""
    assert api.apply(service(), "person").accepted
    assert api.merge_scale("chat", 4, names.FieldManager.DETECTOR).accepted
    assert owners(api) == {}


def test_after_the_seed_every_scaler_is_recorded(api: Any, service: Any) -> None:
    assert api.apply(service(), "person").accepted
    assert api.apply(seed(1), names.FieldManager.OPERATOR_SEED).accepted
    assert owners(api) == {names.FieldManager.OPERATOR_SEED: ""}
    assert api.merge_scale("chat", 4, names.FieldManager.DETECTOR).accepted
    assert owners(api) == {names.FieldManager.DETECTOR: "scale"}
    assert api.merge_scale("chat", 2, "kube-controller-manager").accepted
    assert owners(api) == {"kube-controller-manager": "scale"}


def test_the_record_of_a_scale_has_no_time(api: Any, service: Any) -> None:
    """Who wrote is known, when is not: a reader of the record must not depend on it."""
    assert api.apply(service(), "person").accepted
    assert api.apply(seed(1), names.FieldManager.OPERATOR_SEED).accepted
    assert api.merge_scale("chat", 4, "kube-controller-manager").accepted
    entries = api.get("chat").body["metadata"]["managedFields"]
    assert ["time" in entry for entry in entries if entry.get("subresource") == "scale"] == [False]


def test_the_seed_never_overwrites(api: Any, service: Any) -> None:
    assert api.apply(service({"replicas": 5}), "person").accepted
    answer = api.apply(seed(1), names.FieldManager.OPERATOR_SEED)
    assert answer.code == 409
    assert ".spec.replicas" in answer.message


def test_the_seed_of_a_service_that_is_gone_makes_none(api: Any) -> None:
    answer = api.apply({**seed(1), "metadata": {"name": "chat", "uid": "gone"}}, names.FieldManager.OPERATOR_SEED)
    assert not answer.accepted
    assert api.get("chat").code == 404


def test_applying_the_file_again_leaves_the_replicas_alone(api: Any, service: Any) -> None:
    """A user's file has no replicas, so a later apply neither resets nor owns them."""
    assert api.apply(service(), "person").accepted
    assert api.apply(seed(1), names.FieldManager.OPERATOR_SEED).accepted
    assert api.merge_scale("chat", 4, names.FieldManager.DETECTOR).accepted
    answer = api.apply(service({"paused": True}), "person")
    assert answer.accepted, answer.message
    assert answer.body["spec"]["replicas"] == 4
    assert owners(api) == {names.FieldManager.DETECTOR: "scale"}
