"""Plimsoll: the recommender, a pure library from model facts to an engine configuration."""

from plimsoll_recommender.catalogue.accelerators import Accelerator, accelerator
from plimsoll_recommender.engine_config import EngineConfig, ResolvedConfig
from plimsoll_recommender.errors import InfeasibleError, RecommenderError, UnknownAcceleratorError, UnknownModelError
from plimsoll_recommender.facts.model import ModelFacts
from plimsoll_recommender.latency.predict import predict
from plimsoll_recommender.latency.step_time import StepTimeModel
from plimsoll_recommender.memory.ledger import MemoryLedger, memory_ledger
from plimsoll_recommender.observation.apply import corrected_ledger, corrected_predict
from plimsoll_recommender.observation.corrections import Correction, Corrections
from plimsoll_recommender.observation.observe import observe
from plimsoll_recommender.observation.observed import Observation
from plimsoll_recommender.prediction import Latency, Prediction, Throughput
from plimsoll_recommender.recommendation import (
    Alternative,
    Cost,
    FieldReason,
    FleetMember,
    Limits,
    Recommendation,
    Variant,
)
from plimsoll_recommender.search.recommend import recommend
from plimsoll_recommender.step_load import StepLoad
from plimsoll_recommender.tasks.clusters import task_clusters
from plimsoll_recommender.tasks.model import Task, TaskModel
from plimsoll_recommender.tasks.request import ObservedRequest
from plimsoll_recommender.traffic import Objectives, Workload

__all__ = [
    "Accelerator",
    "Alternative",
    "Correction",
    "Corrections",
    "Cost",
    "EngineConfig",
    "FieldReason",
    "FleetMember",
    "InfeasibleError",
    "Latency",
    "Limits",
    "MemoryLedger",
    "ModelFacts",
    "Objectives",
    "Observation",
    "ObservedRequest",
    "Prediction",
    "Recommendation",
    "RecommenderError",
    "ResolvedConfig",
    "StepLoad",
    "StepTimeModel",
    "Task",
    "TaskModel",
    "Throughput",
    "UnknownAcceleratorError",
    "UnknownModelError",
    "Variant",
    "Workload",
    "accelerator",
    "corrected_ledger",
    "corrected_predict",
    "memory_ledger",
    "observe",
    "predict",
    "recommend",
    "task_clusters",
]
