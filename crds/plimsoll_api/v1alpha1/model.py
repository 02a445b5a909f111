"""`LLMService.spec.model`: which model to serve and where its weights and its description are."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Final

from pydantic import Field

from plimsoll_api.v1alpha1.base import ApiModel, Rule, cel_string, matching

MODEL_URI_PATTERN: Final = r"^(hf|pvc|s3|oci|file)://.+$"
"""The schemes a model can be read from; a bare `org/name` is refused so that the source is never guessed."""

DNS_SUBDOMAIN_PATTERN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
"""Names of Kubernetes objects (RFC 1123 subdomain)."""

_REPOSITORY: Final = r"[A-Za-z0-9][A-Za-z0-9._-]*"

_URI_SHAPES: Final = {
    "hf": (rf"^hf://{_REPOSITORY}/{_REPOSITORY}$", "hf://ORGANISATION/NAME, such as hf://meta-llama/Llama-3.1-8B"),
    "pvc": (r"^pvc://[a-z0-9]([-.a-z0-9]*[a-z0-9])?(/[^/\s]+)+$", "pvc://CLAIM/PATH, such as pvc://models/llama"),
    "s3": (r"^s3://[a-z0-9][-.a-z0-9]+[a-z0-9](/[^/\s]+)+/?$", "s3://BUCKET/PATH, such as s3://models/llama"),
    "oci": (
        r"^oci://[A-Za-z0-9][-.A-Za-z0-9]*(:[0-9]+)?(/[^/\s]+)+$",
        "oci://REGISTRY/IMAGE, such as oci://registry.example/models/llama:1",
    ),
    "file": (r"^file://(/[^/\s]+)+$", "file:///PATH with an absolute path, such as file:///models/llama"),
}
"""What follows each scheme, and how to say it."""


def _shape_rule(scheme: str) -> Rule:
    """The rule that a URI of one scheme has that scheme's form."""
    pattern, form = _URI_SHAPES[scheme]
    return Rule(
        cel=f"!self.startsWith('{scheme}://') || self.matches({cel_string(pattern)})",
        message=f"must be {form}",
        holds=lambda uri: not uri.startswith(f"{scheme}://") or re.fullmatch(pattern, uri) is not None,
    )


ModelUri = Annotated[
    str,
    Field(max_length=1024),
    matching(
        MODEL_URI_PATTERN,
        "must start with hf://, pvc://, s3://, oci:// or file://; for a model of the Hugging Face hub write hf://ORG/NAME",
    ),
    _shape_rule("hf"),
    _shape_rule("pvc"),
    _shape_rule("s3"),
    _shape_rule("oci"),
    _shape_rule("file"),
    Rule(
        cel="!(self + '/').contains('/../')",
        message="must not contain '..'",
        holds=lambda uri: "/../" not in uri + "/",
    ),
]
"""Where a model is."""

ObjectName = Annotated[
    str,
    Field(max_length=253),
    matching(
        DNS_SUBDOMAIN_PATTERN,
        "must be the name of an object in the cluster: lower-case letters, digits, '-' and '.', such as hf-token",
    ),
]
"""The name of an object in the service's namespace."""

_SIZE_PATTERN: Final = r"^[1-9][0-9]*(Mi|Gi|Ti)$"
_MIB_PER_UNIT: Final = {"Mi": 1, "Gi": 1024, "Ti": 1024**2}


class ModelCache(ApiModel):
    """A volume claim that keeps the weights between pods."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel=f"!self.size.matches({cel_string(_SIZE_PATTERN)}) || !oldSelf.size.matches({cel_string(_SIZE_PATTERN)})"
            " || quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0",
            message="model.cache.size cannot shrink: a volume claim can only grow; remove model.cache first",
            field="size",
        ),
        Rule(
            cel="has(self.storageClassName) == has(oldSelf.storageClassName) && "
            "(!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",
            message="model.cache.storageClassName cannot be changed: a volume claim keeps its class; "
            "remove model.cache first",
        ),
    )

    size: Annotated[
        str, Field(max_length=16), matching(_SIZE_PATTERN, "must be a size in Mi, Gi or Ti, such as 200Gi")
    ] = Field(description="Size of the claim, such as 200Gi. It can grow, not shrink.")
    storage_class_name: ObjectName | None = Field(
        default=None, description="Storage class; the cluster's default when absent. Cannot be changed."
    )


class Model(ApiModel):
    """The model to serve and where its weights are."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="has(self.servedName) == has(oldSelf.servedName) && "
            "(!has(self.servedName) || self.servedName == oldSelf.servedName)",
            message="model.servedName cannot be changed: clients send it in their requests; create a new LLMService",
        ),
        Rule(
            cel="!has(self.revision) || self.uri.startsWith('hf://')",
            message="model.revision is only for hf:// models; put the version into the path or the image tag",
            holds=lambda model: model.revision is None or model.uri.startswith("hf://"),
            field="revision",
        ),
        Rule(
            cel="!has(self.cache) || self.uri.startsWith('hf://') || self.uri.startsWith('s3://')",
            message="model.cache is only for models that are downloaded (hf:// or s3://); remove it",
            holds=lambda model: model.cache is None or model.uri.startswith(("hf://", "s3://")),
            field="cache",
        ),
        Rule(
            cel="!(has(self.baseModel) && has(self.configMap))",
            message="model.baseModel and model.configMap both describe the architecture: keep one of them",
            holds=lambda model: model.base_model is None or model.config_map is None,
        ),
    )

    uri: ModelUri = Field(
        description=(
            "Where the model is: hf://org/name (Hugging Face hub), pvc://claim/path, s3://bucket/path, "
            "oci://image or file:///path on the node. A change rolls the pods; clients keep using servedName."
        ),
    )
    revision: (
        Annotated[
            str,
            Field(max_length=128),
            matching(r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", "must be a branch, tag or commit, such as main"),
        ]
        | None
    ) = Field(default=None, description="Revision of an hf:// model: a branch, tag or commit.")
    served_name: (
        Annotated[
            str,
            Field(max_length=253),
            matching(
                r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$",
                "must start with a letter or digit and have only letters, digits and . _ : / - after it",
            ),
        ]
        | None
    ) = Field(
        default=None,
        description="Name clients use in requests; the LLMService's own name when absent. Cannot be changed.",
    )
    credentials_secret: ObjectName | None = Field(
        default=None,
        description="Secret in the same namespace whose key `token` grants access to the model. By reference only.",
    )
    base_model: (
        Annotated[
            str,
            Field(max_length=253),
            matching(
                rf"^{_REPOSITORY}(/{_REPOSITORY})?$",
                "must be a name of the catalogue, such as meta-llama/Llama-3.1-8B-Instruct",
            ),
        ]
        | None
    ) = Field(
        default=None,
        description=(
            "Catalogue name of a model with the same architecture, such as meta-llama/Llama-3.1-8B-Instruct, "
            "for a fine-tune or a copy whose config.json the operator cannot read."
        ),
    )
    config_map: ObjectName | None = Field(
        default=None,
        description="ConfigMap in the same namespace whose key config.json describes the model.",
    )
    cache: ModelCache | None = Field(default=None, description="Keep the weights on a volume claim between pods.")
