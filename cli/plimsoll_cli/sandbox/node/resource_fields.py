"""`resourceFieldRef`: a container's requests and limits as whole numbers of a divisor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

_SUFFIXES: Final = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15),
    "E": Decimal(10**18), "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40),
    "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip
"""Suffixes of a Kubernetes quantity (apimachinery resource.Quantity)."""


def quantity(text: str) -> Decimal:
    """The number of a Kubernetes quantity: `1500m` is 1.5, `2Gi` is 2147483648.

    Raises:
        ValueError: it is not a quantity.
    """
    stripped = text.strip()
    suffix = next((s for s in sorted(_SUFFIXES, key=len, reverse=True) if s and stripped.endswith(s)), "")
    number = stripped[: len(stripped) - len(suffix)]
    try:
        return Decimal(number) * _SUFFIXES[suffix]
    except ArithmeticError as error:
        raise ValueError(f"{text!r} is not a quantity") from error


def resource_field(
    pod: Mapping[str, Any], container: Mapping[str, Any], reference: Mapping[str, Any], allocatable: Mapping[str, str]
) -> str:
    """A request or limit divided by the divisor and rounded up; a limit that is not set is the node's allocatable."""
    name = reference.get("containerName") or container["name"]
    containers = [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or ())]
    owner = next((c for c in containers if c["name"] == name), container)
    kind, _, resource = reference["resource"].partition(".")
    resources = owner.get("resources") or {}
    text = (resources.get(kind) or {}).get(resource)
    if text is None and kind == "limits":
        text = allocatable.get(resource)
    divisor = quantity(str(reference.get("divisor") or "1")) or Decimal(1)
    return str(math.ceil(quantity(text or "0") / divisor))
