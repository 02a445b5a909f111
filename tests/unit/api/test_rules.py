"""Rules that models and the API server share: how they read, and that the models keep them."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from plimsoll_api.v1alpha1 import LLMServiceSpec
from plimsoll_api.v1alpha1.base import ApiModel, Rule, cel_string, to_camel, to_snake
from plimsoll_api.v1alpha1.engine import OWNED_FLAGS


class Pair(ApiModel):
    """Two numbers in order."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="self.lowEnd <= self.highEnd",
            message="lowEnd ({self.lowEnd}) is 100% above highEnd ({self.highEnd})",
            holds=lambda pair: pair.low_end <= pair.high_end,
            field="lowEnd",
        ),
        Rule(cel="self == oldSelf", message="cannot be changed"),
        Rule(cel=None, message="must not be 13", holds=lambda pair: pair.low_end != 13),
    )

    low_end: int
    high_end: int


def test_a_broken_rule_is_told_with_its_numbers() -> None:
    with pytest.raises(ValidationError, match=r"lowEnd \(3\) is 100% above highEnd \(2\)"):
        Pair(low_end=3, high_end=2)


def test_a_rule_about_a_change_holds_for_one_object() -> None:
    assert Pair(low_end=1, high_end=2).low_end == 1


def test_rules_reach_the_schema_except_those_it_has_already() -> None:
    assert Pair.model_json_schema()["x-kubernetes-validations"] == [
        {
            "rule": "self.lowEnd <= self.highEnd",
            "message": "lowEnd (self.lowEnd) is 100% above highEnd (self.highEnd)",
            "messageExpression": "'lowEnd (%s) is 100%% above highEnd (%s)'.format([self.lowEnd, self.highEnd])",
            "fieldPath": ".lowEnd",
        },
        {"rule": "self == oldSelf", "message": "cannot be changed"},
    ]


def test_cel_strings_are_escaped() -> None:
    assert cel_string(r"it's \d") == r"'it\'s \\d'"


def test_names_go_both_ways() -> None:
    assert to_camel("kv_cache_dtype") == "kvCacheDtype"
    assert to_snake("kvCacheDtype") == "kv_cache_dtype"


def spec(**fields: Any) -> LLMServiceSpec:
    return LLMServiceSpec.model_validate({"model": {"uri": "hf://meta-llama/Llama-3.1-8B"}, **fields})


@pytest.mark.parametrize("flag", OWNED_FLAGS)
def test_an_argument_that_the_spec_owns_names_its_field(flag: str) -> None:
    for written in (flag, f"{flag}=1", f"--{flag[2:].replace('-', '_')}=1"):
        with pytest.raises(ValidationError, match=f"{flag} is set by {OWNED_FLAGS[flag].split(',')[0]}"):
            spec(engine={"extraArgs": [written]})


def test_an_integer_is_as_good_as_a_decimal() -> None:
    assert spec(workload={"requestsPerSecond": 4}).workload.requests_per_second == "4"
    with pytest.raises(ValidationError, match="requestsPerSecond"):
        spec(workload={"requestsPerSecond": True})
    with pytest.raises(ValidationError, match="requestsPerSecond"):
        spec(workload={"requestsPerSecond": 1.5})


def test_products_are_unique() -> None:
    with pytest.raises(ValidationError, match="must be unique"):
        spec(accelerators=[{"product": "NVIDIA-L4"}, {"product": "NVIDIA-L4"}])


@pytest.mark.parametrize("template", [{"tolerations": []}, {"metadata": {"name": "x"}}, {"spec": []}])
def test_a_pod_template_has_its_levels(template: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="put pod fields under spec"):
        spec(podTemplate=template)
