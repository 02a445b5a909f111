"""What a condition says about a start that ran out of GPU memory, beside what the engine said."""

from __future__ import annotations

from plimsoll_api.v1alpha1 import EngineConfigStatus
from plimsoll_operator.conditions.situation import Situation
from plimsoll_operator.gpu_memory import Shortage
from plimsoll_operator.memory_steps import MOST_STEPS, Finding


def what_to_change(shortage: Shortage, situation: Situation) -> str:
    """The end of the message: what is done about it, or what a person should change, with the present values."""
    if situation.recommendation is None:
        return ""
    config = situation.recommendation.config
    if shortage is Shortage.RAISE:
        return f"; less memory would not mend it: {_more_room(config)}"
    found = situation.memory
    if found.finding is Finding.DUE and found.proposals:
        return f"; stepping down {found.proposals[0].change}"
    if found.finding is Finding.RECORDED:
        return f"; step {found.taken} of {MOST_STEPS} was taken for it and the spec keeps its settings: {_less(config)}"
    if found.finding is Finding.SERVED:
        return f"; it has served with these settings: see what else holds memory of its GPU, or {_less(config)}"
    if found.finding is Finding.EXHAUSTED:
        return f"; nothing is stepped down any more ({'; '.join(found.limits)}): {_less(config)}"
    return f"; {_less(config)}"


def _more_room(config: EngineConfigStatus) -> str:
    """What gives the KV cache more."""
    return (
        f"raise engine.gpuMemoryUtilization ({config.gpu_memory_utilization}) or engine.tensorParallelSize "
        f"({config.tensor_parallel_size}), or lower engine.maxModelLen ({config.max_model_len}) or engine.maxNumSeqs "
        f"({config.max_num_seqs})"
    )


def _less(config: EngineConfigStatus) -> str:
    """What asks for less of a GPU."""
    return (
        f"lower engine.gpuMemoryUtilization ({config.gpu_memory_utilization}) or engine.maxNumSeqs "
        f"({config.max_num_seqs}), or raise engine.tensorParallelSize ({config.tensor_parallel_size})"
    )
