"""Whether a live object still is what its owner wants, when others may have added to it.

An object read back from the API server has more than was applied (defaults, other owners' fields), and quantities in
their shortest form. So the question is not equality but whether everything wanted is there.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

_IDENTITIES: Final = ("name", "mountPath", "containerPort", "uid", "port", "key", "type", "ip")
"""Fields that identify the items of a list, in the order of looking."""

_QUANTITY: Final = re.compile(r"^([0-9.]+)(Ki|Mi|Gi|Ti|Pi|Ei|m|k|M|G|T|P|E)?$")
_FACTORS: Final[dict[str | None, Decimal]] = {
    None: Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate(("k", "M", "G", "T", "P", "E"), start=1)},
    **{unit: Decimal(1024) ** power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)},
}


def differences(wanted: Any, live: Any, path: str = "") -> frozenset[str]:
    """Paths at which a live object lacks what is wanted; empty when nothing is missing."""
    if isinstance(wanted, dict):
        if not isinstance(live, dict):
            return frozenset({path}) if wanted else frozenset()
        return frozenset().union(
            *(differences(value, live.get(name), f"{path}.{name}") for name, value in wanted.items())
        )
    if isinstance(wanted, list):
        return _list_differences(wanted, live, path)
    return frozenset() if _same(wanted, live) else frozenset({path})


def _list_differences(wanted: list[Any], live: Any, path: str) -> frozenset[str]:
    if not isinstance(live, list):
        return frozenset({path}) if wanted else frozenset()
    identity = _identity(wanted)
    if identity is None:
        if len(wanted) != len(live):
            return frozenset({path})
        pairs = [(f"{path}[{index}]", item, live[index]) for index, item in enumerate(wanted)]
    else:
        known = {item.get(identity): item for item in live if isinstance(item, dict)}
        pairs = [(f"{path}[{item[identity]}]", item, known.get(item[identity])) for item in wanted]
    return frozenset().union(*(differences(item, other, where) for where, item, other in pairs))


def _identity(items: list[Any]) -> str | None:
    """The field that tells the items of a list apart; None when they have none."""
    if not items or not all(isinstance(item, dict) for item in items):
        return None
    for name in _IDENTITIES:
        values = [item.get(name) for item in items]
        if None not in values and len({str(value) for value in values}) == len(values):
            return name
    return None


def _same(wanted: Any, live: Any) -> bool:
    if wanted == live:
        return True
    if isinstance(wanted, str) and isinstance(live, str):
        one, other = _amount(wanted), _amount(live)
        return one is not None and one == other
    return False


def _amount(text: str) -> Decimal | None:
    """The number in a Kubernetes quantity; None when it is none."""
    match = _QUANTITY.match(text)
    if match is None or match.group(1).count(".") > 1 or not match.group(1).strip("."):
        return None
    return Decimal(match.group(1)) * _FACTORS[match.group(2)]
