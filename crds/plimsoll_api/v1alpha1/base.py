"""What every API model is made of: camelCase on the wire, immutable, and rules that hold on both sides.

A `Rule` is stated once and checked twice: as CEL by the API server, which refuses the object before anything sees it,
and as Python by the models, so that a file on disk or an object of an older schema gets the same answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, JsonValue, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

VALIDATIONS: Final = "x-kubernetes-validations"
"""The schema keyword that carries CEL rules."""

_PLACEHOLDER: Final = re.compile(r"\{(self(?:\.\w+)*)\}")


def to_camel(snake: str) -> str:
    """`tensor_parallel_size` -> `tensorParallelSize`."""
    head, *tail = snake.split("_")
    return head + "".join(word.capitalize() for word in tail)


def to_snake(camel: str) -> str:
    """`tensorParallelSize` -> `tensor_parallel_size`."""
    return re.sub(r"[A-Z]", lambda letter: "_" + letter.group().lower(), camel)


def cel_string(text: str) -> str:
    """A CEL string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


@dataclass(frozen=True)
class Rule:
    """One validation rule of a model (`ClassVar` `rules`) or of a value (`Annotated[str, Rule(...)]`).

    Attributes:
        cel: the rule for the API server; `self` is the model or the value, `oldSelf` what it was before an update.
            None when the schema's own keywords say it already.
        message: what a person reads; `{self.minReplicas}` stands for the value of a field.
        holds: the same rule in Python; None for a rule about a change (`oldSelf`), which only the server can see.
        field: the field of a model that the server's error points at.
        explain: a CEL expression for the message, when placeholders are not enough.
        explain_python: the same in Python.
    """

    cel: str | None
    message: str
    holds: Callable[[Any], bool] | None = None
    field: str | None = None
    explain: str | None = None
    explain_python: Callable[[Any], str] | None = None

    def validations(self) -> list[dict[str, JsonValue]]:
        """The rule as entries of `x-kubernetes-validations`: one, or none."""
        if self.cel is None:
            return []
        entry: dict[str, JsonValue] = {"rule": self.cel, "message": _PLACEHOLDER.sub(r"\1", self.message)}
        if self.explain is not None:
            entry["messageExpression"] = self.explain
        elif _PLACEHOLDER.search(self.message):
            entry["messageExpression"] = _formatted(self.message)
        if self.field is not None:
            entry["fieldPath"] = f".{self.field}"
        return [entry]

    def check(self, value: Any) -> Any:
        """Return the value unchanged.

        Raises:
            ValueError: the rule does not hold; the text is the rule's message with its numbers.
        """
        if self.holds is None or self.holds(value):
            return value
        if self.explain_python is not None:
            raise ValueError(self.explain_python(value))
        raise ValueError(_PLACEHOLDER.sub(lambda match: str(_resolve(match.group(1), value)), self.message))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check the rule after the value's own validation."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add the rule to the value's schema."""
        result = handler(schema)
        return _with_validations(result, self.validations())


def matching(pattern: str, message: str) -> Rule:
    """The rule that a string matches an anchored pattern (RE2 and Python syntax in common).

    A rule instead of the keyword `pattern`, whose error shows the expression and not what to write.
    """
    return Rule(
        cel=f"self.matches({cel_string(pattern)})",
        message=message,
        holds=lambda text: re.fullmatch(pattern, text) is not None,
    )


def _with_validations(schema: JsonSchemaValue, entries: list[dict[str, JsonValue]]) -> JsonSchemaValue:
    """A schema with further CEL rules after its own."""
    return {**schema, VALIDATIONS: [*schema.get(VALIDATIONS, []), *entries]} if entries else schema


def _formatted(message: str) -> str:
    """A message with placeholders as a CEL expression.

    `format`, because the API server cannot bound the cost of joining texts of unknown length and refuses the rule.
    """
    template = _PLACEHOLDER.sub("%s", message.replace("%", "%%"))
    return f"{cel_string(template)}.format([{', '.join(_PLACEHOLDER.findall(message))}])"


def _resolve(path: str, value: Any) -> Any:
    """The value at `self.someField.other` of a model."""
    for name in path.split(".")[1:]:
        value = getattr(value, to_snake(name))
    return value


class ApiModel(BaseModel):
    """Base of every API model: camelCase on the wire, immutable, unknown fields refused, rules checked."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    rules: ClassVar[tuple[Rule, ...]] = ()
    """Rules about several fields of the model."""

    @model_validator(mode="after")
    def _rules_hold(self) -> Self:
        for rule in self.rules:
            rule.check(self)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add the model's rules to its schema."""
        result = handler.resolve_ref_schema(handler(schema))
        return _with_validations(result, [entry for rule in cls.rules for entry in rule.validations()])
