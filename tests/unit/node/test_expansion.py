"""`$(VAR)` as the API documents it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plimsoll_cli.sandbox.node.expansion import expand, expand_all

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
texts = st.text(st.sampled_from("$()abAB {}"), max_size=30)


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y$(A)"),  # a value is not expanded again
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$$$$(A)", "$$(A)"),
        ("$(NONE)", "$(NONE)"),
        ("$A ${A} $", "$A ${A} $"),
        ("$(A", "$(A"),
        ("$()", "$()"),
        ("$(x$(A)", "$(x$(A)"),  # the name runs to the first bracket that closes
        ("$($$)", "$($$)"),
        ("a$$b", "a$b"),
    ],
)
def test_cases(text: str, expanded: str) -> None:
    """Escapes, unknown names, half references."""
    assert expand(text, {"A": "1", "B": "$(A)"}) == expanded


@given(texts.filter(lambda text: "$(" not in text))
def test_without_variables_only_escapes_change(text: str) -> None:
    """Nothing but `$$` is touched."""
    assert expand(text, {}) == text.replace("$$", "$")


@given(texts.filter(lambda text: "$" not in text), names, st.text(max_size=10), texts)
def test_a_reference_is_its_value(before: str, name: str, value: str, after: str) -> None:
    """Whatever the value holds, it is put in as it is."""
    plain = after.replace("$", "")
    assert expand(f"{before}$({name}){plain}", {name: value}) == before + value + plain


@given(texts)
def test_escaping_every_dollar_is_undone(text: str) -> None:
    """Doubling every `$` gives the text back."""
    assert expand(text.replace("$", "$$"), {"a": "x", "A": "y"}) == text


@given(st.lists(texts, max_size=5))
def test_words_stay_words(words: list[str]) -> None:
    """None is split, joined or lost."""
    assert len(expand_all(words, {"a": "b c"})) == len(words)
