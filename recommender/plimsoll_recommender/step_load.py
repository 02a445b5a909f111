"""What one engine step computes on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepLoad:
    """The work of one step of a replica.

    Args:
        prefill_tokens: prompt tokens computed in this step, over all sequences.
        prefill_context: attention pairs of the prefill: for each prompt token, the tokens it attends to, summed.
        decode_sequences: sequences that generate one token in this step.
        kv_tokens: tokens whose KV the decoding sequences read, summed over them.
        sampled_sequences: sequences for which logits are computed and a token sampled.
    """

    prefill_tokens: int = 0
    prefill_context: int = 0
    decode_sequences: int = 0
    kv_tokens: int = 0
    sampled_sequences: int = 0
