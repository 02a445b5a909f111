"""Iteration-level batching: each step is filled anew with decodes, prompt chunks and newly admitted requests.

The rules are those of vLLM 0.19's to 0.32's V1 scheduler (`v1/core/sched/scheduler.py`, `async_scheduler.py`,
`v1/core/kv_cache_manager.py`):

* running sequences are served first, in order of admission, each with the tokens it lacks, within
  `max_num_batched_tokens`; so decodes come before the rest of a long prompt, which goes on in chunks;
* when blocks run out, the last admitted sequence loses its blocks and goes to the head of the queue, to compute its
  prompt and what it had generated again;
* in a step without preemption, waiting requests are admitted first come, first served, while there are seats
  (`max_num_seqs`), tokens, and free blocks for the whole prompt (`scheduler_reserve_full_isl`);
* leading blocks found in the prefix cache are not computed again, except that the last token always is;
* with asynchronous scheduling (the default since 0.14) a step is scheduled while the one before it runs: the token that
  this one will generate counts as known, and its blocks come free one step later. Call `schedule` again before
  `complete` to have that.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Hashable
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field

from plimsoll_recommender.scheduler.kv_blocks import BlockPool
from plimsoll_recommender.scheduler.request import Request, SchedulerConfig, Sequence, SequenceState
from plimsoll_recommender.step_load import StepLoad

_RUNNING = SequenceState.RUNNING


@dataclass(slots=True, eq=False)
class Step:
    """What runs in one step.

    Args:
        sequences: sequences that compute, in order of admission.
        tokens: tokens each computes.
        load: what the step computes on, for the step-time model.
        admitted: sequences that came from the queue in this step.
        preempted: sequences that lost their blocks in this step.
        sampled: sequences that generate a token in this step.
    """

    sequences: list[Sequence]
    tokens: list[int]
    load: StepLoad
    admitted: list[Sequence] = field(default_factory=list)
    preempted: list[Sequence] = field(default_factory=list)
    sampled: list[Sequence] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class StepResult:
    """What a step brought.

    Args:
        emitted: sequences that generated one token each; `generated == 1` marks a first token.
        finished: those of them that are done.
    """

    emitted: list[Sequence]
    finished: list[Sequence]


class Scheduler:
    """The scheduler of one replica.

    Call `add` and `abort` at any time, `schedule` when a step can be prepared, and `complete` when a step's time is
    over. Steps complete in the order in which they were scheduled.

    Args:
        config: its limits.
    """

    def __init__(self, config: SchedulerConfig) -> None:
        self.config = config
        self.pool = BlockPool(config.kv_blocks)
        self.prefix_queries = 0
        self.prefix_hits = 0
        self.preemptions = 0
        self._running: list[Sequence] = []
        self._waiting: OrderedDict[str, Sequence] = OrderedDict()
        self._by_id: dict[str, Sequence] = {}

    @property
    def running(self) -> int:
        """Sequences that hold blocks."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @property
    def kv_usage(self) -> float:
        """Share of KV blocks in use, 0 to 1."""
        return self.pool.used / self.pool.total

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._running and not self._waiting

    def add(self, request: Request) -> Sequence:
        """Queue a request.

        Raises:
            ValueError: its id is in use, or its prompt leaves no room for a token within `max_model_len`.
        """
        room = self.config.max_model_len - request.prompt_tokens
        if room < 1:
            raise ValueError(
                f"prompt_tokens ({request.prompt_tokens}) must be less than max_model_len ({self.config.max_model_len})"
            )
        if request.id in self._by_id:
            raise ValueError(f"request {request.id!r} is already here")
        sequence = Sequence(request, min(request.max_output_tokens, room), request.prompt_tokens)
        self._by_id[request.id] = sequence
        self._waiting[request.id] = sequence
        return sequence

    def abort(self, request_id: str) -> bool:
        """Take a request out, with its blocks; False when it is not here (any more)."""
        sequence = self._by_id.pop(request_id, None)
        if sequence is None:
            return False
        self._take_out(sequence, SequenceState.ABORTED)
        return True

    def schedule(self) -> Step | None:
        """The next step; None when there is nothing to run, or nothing before a step in flight is complete."""
        step = Step([], [], StepLoad())
        budget = self._serve_running(step)
        if self._waiting and budget > 0 and not step.preempted:
            self._admit(step, budget)
        return step if step.sequences else None

    def complete(self, step: Step) -> StepResult:
        """End a step: every sequence whose known tokens are all computed has generated one more."""
        for sequence, tokens in zip(step.sequences, step.tokens, strict=True):
            # One that was preempted meanwhile has lost what was computed, though not the token it generated.
            if sequence.state is _RUNNING:
                sequence.computed += tokens
        emitted: list[Sequence] = []
        finished: list[Sequence] = []
        for sequence in step.sampled:
            if sequence.state is SequenceState.ABORTED:
                continue
            sequence.in_flight -= 1
            sequence.generated += 1
            sequence.known += 1
            emitted.append(sequence)
            if sequence.generated >= sequence.output_limit:
                finished.append(sequence)
        for sequence in finished:
            del self._by_id[sequence.request.id]
            self._take_out(sequence, SequenceState.FINISHED)
        return StepResult(emitted, finished)

    def uneventful(self) -> int:
        """How many coming steps only generate one more token for each running sequence.

        In none of them a sequence ends, is admitted or is preempted. Ask right after `complete`, with at most one step
        in flight; `skip` then does several at once.
        """
        running = self._running
        if not running or len(running) > self.config.max_num_batched_tokens:
            return 0
        pending = running[0].in_flight
        least = running[0].output_limit
        for sequence in running:
            generated = sequence.generated
            decodes = sequence.known + pending - sequence.scheduled == 1 and generated + pending
            if sequence.in_flight != pending or not decodes:
                return 0
            if sequence.output_limit - generated < least:
                least = sequence.output_limit - generated
        steps = self._affordable(least - 1)
        return 0 if self._waiting and steps and self._admits_within(steps) else steps

    def skip(self, steps: int) -> None:
        """Run as many steps as `uneventful` said, or fewer, at once; a step in flight stays in flight, as the last."""
        size = self.config.block_size
        for sequence in self._running:
            end = sequence.scheduled + steps
            if end > sequence.capacity:
                self._grow(sequence, -(-end // size) - sequence.blocks)
            if end >= sequence.publish_at:
                self._publish(sequence, end)
            sequence.scheduled = end
            sequence.computed += steps
            sequence.generated += steps
            sequence.known += steps

    @property
    def scheduled_tokens(self) -> int:
        """Tokens of the running sequences that are computed once the steps in flight are complete."""
        return sum(sequence.scheduled for sequence in self._running)

    def _affordable(self, steps: int) -> int:
        """The most of so many steps of one token per running sequence that the free blocks are enough for."""
        size, free = self.config.block_size, self.pool.free
        room = [sequence.capacity - sequence.scheduled for sequence in self._running]

        def needed(count: int) -> int:
            return sum(-(-(count - left) // size) for left in room if left < count)

        if steps <= 0 or needed(steps) <= free:
            return max(steps, 0)
        low, high = 0, steps
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if needed(middle) <= free else (low, middle)
        return low

    def _admits_within(self, steps: int) -> bool:
        """Whether the head of the queue could be admitted in the coming steps, in which no sequence ends."""
        if len(self._running) >= self.config.max_num_seqs:
            return False
        head = next(iter(self._waiting.values()))
        if head.in_flight or self._fits(head) is not None:
            return True
        # Free blocks only become fewer; but it may find blocks that the running sequences fill meanwhile.
        hashes, size = head.request.block_hashes, self.config.block_size
        if not self.config.prefix_caching or not hashes:
            return False
        wanted = hashes if isinstance(hashes, range) else set(hashes)
        return any(
            value in wanted
            for sequence in self._running
            for value in sequence.request.block_hashes[sequence.published : (sequence.scheduled + steps) // size]
        )

    def _fits(self, sequence: Sequence) -> SequenceOf[Hashable] | None:
        """The leading hashes that a waiting sequence finds in the pool; None when its other blocks do not fit."""
        size = self.config.block_size
        hashes = sequence.request.block_hashes if self.config.prefix_caching else ()
        shared = hashes[: self.pool.leading_hits(hashes, (sequence.known - 1) // size)]
        whole = -(-sequence.known // size) - len(shared)
        return shared if whole <= self.pool.free - self.pool.idle_among(shared) else None

    def _take_out(self, sequence: Sequence, state: SequenceState) -> None:
        if sequence.state is _RUNNING:
            self._running.remove(sequence)
            self._release(sequence)
        else:
            del self._waiting[sequence.request.id]
        sequence.state = state

    def _serve_running(self, step: Step) -> int:
        """Give running sequences their tokens; returns the tokens that are left of the step.

        A sequence decodes when it computes the one token it generated last.
        """
        running, budget = self._running, self.config.max_num_batched_tokens
        sequences, counts, sampled = step.sequences, step.tokens, step.sampled
        index = decode = read = prefill = context = 0
        # `running` shrinks from its end when sequences are preempted, those that have been served stay.
        while index < len(running) and budget > 0:
            sequence = running[index]
            index += 1
            pending = sequence.in_flight
            generated = sequence.generated + pending
            if pending and generated >= sequence.output_limit:
                # Its last token is being generated.
                continue
            begin = sequence.scheduled
            lacking = sequence.known + pending - begin
            tokens = lacking if lacking < budget else budget
            end = begin + tokens
            if end > sequence.capacity and not self._make_room(sequence, end, step):
                break
            if end >= sequence.publish_at:
                self._publish(sequence, end)
            sequence.scheduled = end
            sequences.append(sequence)
            counts.append(tokens)
            budget -= tokens
            if tokens == lacking:
                sequence.in_flight = pending + 1
                sampled.append(sequence)
                if tokens == 1 and generated:
                    decode += 1
                    read += end
                    continue
            prefill += tokens
            context += _attention_pairs(begin, tokens)
        step.load = StepLoad(prefill, context, decode, read, len(sampled))
        return budget

    def _make_room(self, sequence: Sequence, end: int, step: Step) -> bool:
        """Get a sequence the blocks for `end` tokens, from the last admitted if need be; False when it was the last."""
        blocks = -(-end // self.config.block_size) - sequence.blocks
        while self.pool.free < blocks:
            victim = self._running.pop()
            self._preempt(victim)
            step.preempted.append(victim)
            if victim is sequence:
                return False
        self._grow(sequence, blocks)
        return True

    def _admit(self, step: Step, budget: int) -> None:
        """Move requests from the queue into the step while seats, tokens and blocks last."""
        size, seats = self.config.block_size, self.config.max_num_seqs - len(self._running)
        prefill, context = step.load.prefill_tokens, step.load.prefill_context
        while self._waiting and budget > 0 and seats > 0:
            sequence = next(iter(self._waiting.values()))
            if sequence.in_flight:
                # Preempted with a token on its way: what it must compute is known when that step is complete.
                break
            shared = self._fits(sequence)
            if shared is None:
                break
            hits = len(shared)
            del self._waiting[sequence.request.id]
            self.pool.share(shared)
            sequence.held.extend(shared)
            sequence.published = sequence.blocks = hits
            sequence.capacity = sequence.computed = sequence.scheduled = hits * size
            if sequence.preemptions == 0 and self.config.prefix_caching:
                sequence.cached_tokens = hits * size
                self.prefix_queries += sequence.known
                self.prefix_hits += hits * size
            tokens = min(sequence.known - sequence.scheduled, budget)
            end = sequence.scheduled + tokens
            self._grow(sequence, -(-end // size) - hits)
            self._publish(sequence, end)
            sequence.scheduled = end
            if end == sequence.known:
                sequence.in_flight = 1
                step.sampled.append(sequence)
            sequence.state = _RUNNING
            self._running.append(sequence)
            step.admitted.append(sequence)
            step.sequences.append(sequence)
            step.tokens.append(tokens)
            prefill += tokens
            context += _attention_pairs(end - tokens, tokens)
            budget -= tokens
            seats -= 1
        if step.admitted:
            decode, read = step.load.decode_sequences, step.load.kv_tokens
            step.load = StepLoad(prefill, context, decode, read, len(step.sampled))

    def _grow(self, sequence: Sequence, blocks: int) -> None:
        self.pool.take(blocks)
        sequence.blocks += blocks
        sequence.capacity = sequence.blocks * self.config.block_size

    def _publish(self, sequence: Sequence, end: int) -> None:
        """Hash the blocks that are full once `end` tokens are computed."""
        hashes, size = sequence.request.block_hashes, self.config.block_size
        full = min(end // size, len(hashes))
        if self.config.prefix_caching:
            for value in hashes[sequence.published : full]:
                if self.pool.publish(value):
                    sequence.held.append(value)
        if full > sequence.published:
            sequence.published = full
        more = sequence.published < len(hashes)
        sequence.publish_at = (sequence.published + 1) * size if more else sys.maxsize

    def _release(self, sequence: Sequence) -> None:
        self.pool.release(sequence.blocks - len(sequence.held), sequence.held)
        sequence.held = []
        sequence.blocks = sequence.capacity = sequence.published = sequence.computed = sequence.scheduled = 0

    def _preempt(self, sequence: Sequence) -> None:
        self._release(sequence)
        sequence.preemptions += 1
        self.preemptions += 1
        sequence.state = SequenceState.WAITING
        self._waiting[sequence.request.id] = sequence
        self._waiting.move_to_end(sequence.request.id, last=False)


def _attention_pairs(begin: int, tokens: int) -> int:
    """Pairs that a chunk attends over: each token sees what came before the chunk, those before it in it, itself."""
    return tokens * begin + tokens * (tokens + 1) // 2
