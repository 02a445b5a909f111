"""`plimsoll.dev/v1alpha1`: the LLMService models."""

from __future__ import annotations

from plimsoll_api.v1alpha1.base import ApiModel
from plimsoll_api.v1alpha1.engine import Engine, EngineType, KvCacheDtype
from plimsoll_api.v1alpha1.model import Model, ModelCache
from plimsoll_api.v1alpha1.quantities import format_decimal, format_duration, parse_duration
from plimsoll_api.v1alpha1.spec import (
    AcceleratorCandidate,
    LLMServiceSpec,
    Objectives,
    Rollout,
    RolloutStrategy,
    Scaling,
    ScalingMode,
    TokenLengths,
    Workload,
)
from plimsoll_api.v1alpha1.status import (
    HISTORY_LENGTH,
    Alternative,
    Condition,
    Contribution,
    CostStatus,
    DecisionStatus,
    DiagnosisKind,
    DiagnosisStatus,
    EngineConfigStatus,
    HistoryEntry,
    LedgerStatus,
    LLMServiceStatus,
    LoadTestStatus,
    ObservedStatus,
    PredictedStatus,
    Reason,
    RecommendationStatus,
)

__all__ = [
    "HISTORY_LENGTH",
    "AcceleratorCandidate",
    "Alternative",
    "ApiModel",
    "Condition",
    "Contribution",
    "CostStatus",
    "DecisionStatus",
    "DiagnosisKind",
    "DiagnosisStatus",
    "Engine",
    "EngineConfigStatus",
    "EngineType",
    "HistoryEntry",
    "KvCacheDtype",
    "LLMServiceSpec",
    "LLMServiceStatus",
    "LedgerStatus",
    "LoadTestStatus",
    "Model",
    "ModelCache",
    "Objectives",
    "ObservedStatus",
    "PredictedStatus",
    "Reason",
    "RecommendationStatus",
    "Rollout",
    "RolloutStrategy",
    "Scaling",
    "ScalingMode",
    "TokenLengths",
    "Workload",
    "format_decimal",
    "format_duration",
    "parse_duration",
]
