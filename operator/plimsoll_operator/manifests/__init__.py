"""Pure: an LLMService and its sizing become the manifests of its children."""

from __future__ import annotations

from plimsoll_operator.manifests.children import children_of, revision_of
from plimsoll_operator.manifests.inputs import ServiceInputs

__all__ = ["ServiceInputs", "children_of", "revision_of"]
