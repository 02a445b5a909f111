"""Whether everything that is wanted is there, when others have added to it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll_operator.drift import differences

objects = st.recursive(
    st.integers() | st.text(max_size=4) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcdef"), inner, max_size=3),
    max_leaves=10,
)


@given(objects)
def test_an_object_is_all_that_it_is(item: Any) -> None:
    assert differences(item, item) == frozenset()


@given(st.dictionaries(st.sampled_from("abc"), objects), st.dictionaries(st.sampled_from("xyz"), objects))
def test_what_others_add_is_no_difference(wanted: dict[str, Any], added: dict[str, Any]) -> None:
    assert differences(wanted, {**wanted, **added}) == frozenset()


@given(st.dictionaries(st.sampled_from("abc"), st.integers(), min_size=1))
def test_what_is_missing_is(wanted: dict[str, int]) -> None:
    assert differences(wanted, {}) == {f".{name}" for name in wanted}


@pytest.mark.parametrize(
    ("wanted", "live", "same"),
    [
        ("1024Mi", "1Gi", True),
        ("4", "4000m", True),
        ("4", "5", False),
        ("1Gi", "1G", False),
        ("v1.2", "v1.2", True),
        ("a", "b", False),
        (1, "1", False),
        (["a", "b"], ["a", "b"], True),
        (["a", "b"], ["b", "a"], False),
        (["a"], ["a", "b"], False),
        ({}, None, True),
        ([], None, True),
        ([{"name": "a", "v": 1}], [{"name": "sidecar"}, {"name": "a", "v": 1, "default": 2}], True),
        ([{"name": "a", "v": 1}], [{"name": "a", "v": 2}], False),
        ([{"name": "a"}], [], False),
        (
            [{"mountPath": "/a", "name": "x"}, {"mountPath": "/b", "name": "x"}],
            [{"mountPath": "/a", "name": "x"}],
            False,
        ),
    ],
)
def test_pairs(wanted: Any, live: Any, same: bool) -> None:
    assert (differences(wanted, live) == frozenset()) is same
