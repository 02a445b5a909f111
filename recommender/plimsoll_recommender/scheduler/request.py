"""What the scheduler is told, and what it keeps of each request."""

from __future__ import annotations

import enum
from collections.abc import Hashable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from typing import Final

DEFAULT_BLOCK_SIZE: Final = 16
"""Tokens of a KV block (vLLM's default on GPUs)."""


@dataclass(frozen=True)
class SchedulerConfig:
    """Limits of one replica's scheduler.

    Args:
        kv_blocks: KV blocks that requests may use (vLLM keeps one more for itself).
        max_num_seqs: most sequences running at once.
        max_num_batched_tokens: most tokens computed in one step.
        max_model_len: longest prompt plus output, in tokens.
        block_size: tokens of a KV block.
        prefix_caching: whether blocks of finished requests are found again by their hash.

    Raises:
        ValueError: limits with which some request could never finish.
    """

    kv_blocks: int
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    block_size: int = DEFAULT_BLOCK_SIZE
    prefix_caching: bool = True

    def __post_init__(self) -> None:
        for name in ("kv_blocks", "max_num_seqs", "max_num_batched_tokens", "max_model_len", "block_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens ({self.max_num_batched_tokens}) must not be less than max_num_seqs "
                f"({self.max_num_seqs}): every running sequence needs a token of a step"
            )
        needed = -(-self.max_model_len // self.block_size)
        if needed > self.kv_blocks:
            raise ValueError(
                f"a request of max_model_len ({self.max_model_len}) needs {needed} KV blocks of {self.block_size} "
                f"tokens, there are {self.kv_blocks}: lower max_model_len"
            )


@dataclass(frozen=True)
class Request:
    """One request.

    Args:
        id: its name, unique among the requests that are not finished.
        prompt_tokens: length of the prompt.
        max_output_tokens: tokens it generates before it ends (fewer when `max_model_len` is reached).
        block_hashes: hash of each full block of its tokens, each covering all tokens before it; blocks beyond the
            prompt are those of the output. Empty: nothing is shared with other requests. A `range` of numbers that no
            other request has is a cheap way to let a preempted request find its own blocks again.
    """

    id: str
    prompt_tokens: int
    max_output_tokens: int
    block_hashes: SequenceOf[Hashable] = ()

    def __post_init__(self) -> None:
        if self.prompt_tokens < 1:
            raise ValueError(f"prompt_tokens must be at least 1, got {self.prompt_tokens}")
        if self.max_output_tokens < 1:
            raise ValueError(f"max_output_tokens must be at least 1, got {self.max_output_tokens}")


class SequenceState(enum.Enum):
    """Where a request is."""

    WAITING = enum.auto()
    RUNNING = enum.auto()
    FINISHED = enum.auto()
    ABORTED = enum.auto()


@dataclass(slots=True, eq=False)
class Sequence:
    """A request in the scheduler. Read it; only the scheduler writes it.

    Args:
        request: what was asked.
        output_limit: tokens that it will generate.
        known: tokens whose values are known: prompt and generated.
        computed: tokens whose KV is in the cache.
        scheduled: tokens that are computed once the steps in flight are complete.
        in_flight: tokens that the steps in flight will generate.
        generated: tokens generated.
        cached_tokens: prompt tokens found in the prefix cache when it was first admitted.
        preemptions: times that it lost its blocks.
        state: where it is.
    """

    request: Request
    output_limit: int
    known: int
    computed: int = 0
    scheduled: int = 0
    in_flight: int = 0
    generated: int = 0
    cached_tokens: int = 0
    preemptions: int = 0
    state: SequenceState = SequenceState.WAITING
    # Blocks it holds, the tokens they hold, how many were given their hash, the tokens with which the next one will be,
    # and the hashes it holds.
    blocks: int = 0
    capacity: int = 0
    published: int = 0
    publish_at: int = 0
    held: list[Hashable] = field(default_factory=list)
