"""The table of cases.yaml against the real API server: what it must accept, what it must refuse, and in which words."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from plimsoll_api.crd import custom_resource_definition
from plimsoll_api.v1alpha1 import LLMServiceSpec

pytestmark = [pytest.mark.api_server, pytest.mark.xdist_group("control_plane")]

CASES = yaml.safe_load((Path(__file__).parent / "cases.yaml").read_text(encoding="utf-8"))
ACCEPTED: list[dict[str, Any]] = CASES["accepted"]
REFUSED: list[dict[str, Any]] = CASES["refused"]
VALIDATIONS = "x-kubernetes-validations"


def by_reason(case: dict[str, Any]) -> str:
    return str(case["why"])


def send(api: Any, service: Any, case: dict[str, Any]) -> Any:
    """Send a case: an update of what was before, or a new object; nothing is kept but what was before."""
    name = case.get("name", "chat")
    if "before" not in case:
        return api.create(service(case["set"], name))
    name = re.sub(r"[^a-z0-9]+", "-", case["why"])  # a name of its own, so that cases share one namespace
    made = api.create(service(case["before"], name), dry_run=False)
    assert made.accepted, made.message
    after = {**made.body, "spec": service(case["set"], name)["spec"]}
    answer = api.update(after)
    api.delete(name)
    return answer


def test_the_table_covers_what_people_get_wrong() -> None:
    assert len(REFUSED) >= 25
    assert len({by_reason(case) for case in ACCEPTED + REFUSED}) == len(ACCEPTED + REFUSED)


@pytest.mark.parametrize("case", ACCEPTED, ids=by_reason)
def test_accepted(case: dict[str, Any], session_api: Any, service: Any) -> None:
    answer = send(session_api, service, case)
    assert answer.accepted, answer.message
    LLMServiceSpec.model_validate(answer.body["spec"])


def refusal(api: Any, service: Any, case: dict[str, Any]) -> str:
    """The server's words for a case that it must refuse."""
    answer = send(api, service, case)
    assert not answer.accepted, "the API server took it"
    assert answer.code in (400, 422), answer.body
    for words in case["says"]:
        assert words in answer.message
    return str(answer.message)


@pytest.mark.parametrize("case", REFUSED, ids=by_reason)
def test_refused(case: dict[str, Any], session_api: Any, service: Any) -> None:
    message = refusal(session_api, service, case)
    assert "failed rule" not in message, "a rule without a message for people"
    assert "evaluation error" not in message


ONLY_THE_SERVER_REFUSES = {
    "replicas as text": "the models read a number from its digits",
    "a pod label that is a number": "the models leave pod templates to the server",
}
OF_ONE_SPEC = [
    case
    for case in REFUSED
    if "before" not in case and "name" not in case and case["why"] not in ONLY_THE_SERVER_REFUSES
]


@pytest.mark.parametrize("case", OF_ONE_SPEC, ids=by_reason)
def test_the_models_refuse_what_the_server_refuses(case: dict[str, Any], service: Any) -> None:
    with pytest.raises(ValidationError):
        LLMServiceSpec.model_validate(service(case["set"])["spec"])


def rules(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Every CEL rule with the dotted path of its node."""
    for rule in schema.get(VALIDATIONS, []):
        yield path, rule
    for name, child in schema.get("properties", {}).items():
        yield from rules(child, f"{path}.{name}" if path else name)
    if "items" in schema:
        yield from rules(schema["items"], f"{path}[]")


VERSION = custom_resource_definition()["spec"]["versions"][0]
RULES = list(rules(VERSION["schema"]["openAPIV3Schema"], ""))


def expected(path: str, rule: dict[str, str]) -> re.Pattern[str]:
    """The field and message that the server shows when a rule is broken, numbers left open."""
    field = re.escape(path + rule.get("fieldPath", "")).replace(re.escape("[]"), r"\[\d+\]")
    if "is set by" in rule.get("messageExpression", ""):
        message = "--.* is set by .*"
    elif "messageExpression" in rule:
        message = re.sub(r"self(\\\.\w+)+", r"\\S+", re.escape(rule["message"]))
    else:
        message = re.escape(rule["message"])
    return re.compile(rf"{field or '<nil>'}: .*{message}", re.DOTALL)


def test_every_rule_has_a_case_that_breaks_it(session_api: Any, service: Any) -> None:
    seen = [f"{field}: {message}" for case in REFUSED for field, message in (send(session_api, service, case).causes)]
    unbroken = [(path, rule["message"]) for path, rule in RULES if not any(map(expected(path, rule).search, seen))]
    assert unbroken == []


def test_every_rule_has_a_case_that_keeps_it(session_api: Any, service: Any) -> None:
    specs = [(case, send(session_api, service, case).body["spec"]) for case in ACCEPTED]
    lacking = [
        (path, rule["message"])
        for path, rule in RULES
        if path
        and not any(
            present(spec, path.split(".")[1:]) and ("oldSelf" not in rule["rule"] or "before" in case)
            for case, spec in specs
        )
    ]
    assert lacking == []


def present(node: Any, path: list[str]) -> bool:
    """Whether an object has a value at a dotted path, in any element of a list."""
    if not path:
        return True
    name, *rest = path
    if name.endswith("[]"):
        return any(present(item, rest) for item in node.get(name[:-2], []))
    return name in node and present(node[name], rest)


def unchecked_definition() -> dict[str, Any]:
    """The same resource without a single rule, in a group of its own."""

    def strip(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: strip(value) for key, value in node.items() if key != VALIDATIONS}
        return [strip(item) for item in node] if isinstance(node, list) else node

    definition = strip(copy.deepcopy(custom_resource_definition()))
    definition["spec"]["group"] = "unchecked.plimsoll.dev"
    definition["spec"]["names"]["shortNames"] = []
    definition["spec"]["names"]["categories"] = []
    definition["metadata"]["name"] = "llmservices.unchecked.plimsoll.dev"
    return definition  # type: ignore[no-any-return]


def test_without_the_rules_the_refusals_would_fail(session_api: Any, service: Any, kubectl: Any) -> None:
    """The control: where the rules are taken out of the schema, the check above fails."""
    kubectl.install_definitions(yaml.safe_dump(unchecked_definition()))  # for a moment after Established: 429
    unchecked = session_api.of_group("unchecked.plimsoll.dev/v1alpha1")

    def unchecked_service(fields: dict[str, Any], name: str = "chat") -> dict[str, Any]:
        return {**service(fields, name), "apiVersion": "unchecked.plimsoll.dev/v1alpha1"}

    case = next(case for case in REFUSED if case["why"] == "bounds the wrong way round")
    assert refusal(session_api, service, case)
    with pytest.raises(AssertionError, match="the API server took it"):
        refusal(unchecked, unchecked_service, case)
