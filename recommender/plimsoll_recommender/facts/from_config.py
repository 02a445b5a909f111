"""From a config.json to model facts: which layers a model has, in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from plimsoll_recommender.errors import RecommenderError, UnknownModelError
from plimsoll_recommender.facts import attention as blocks
from plimsoll_recommender.facts import recurrent
from plimsoll_recommender.facts.architectures import approximated
from plimsoll_recommender.facts.attention import Attention
from plimsoll_recommender.facts.feed_forward import active_experts, dense, expert_count, experts
from plimsoll_recommender.facts.fields import MOST_LAYERS, Fields, is_real, positive, shown
from plimsoll_recommender.facts.layers import Layer, Split, TokenCache, Weight
from plimsoll_recommender.facts.model import DTYPE_BYTES, ModelFacts
from plimsoll_recommender.facts.quantization import Quantization, quantization_of
from plimsoll_recommender.facts.safetensors import Checkpoint
from plimsoll_recommender.facts.vision import vision_weights

MXFP4_BITS: Final = 4.25
"""4 bits and one 8-bit exponent per 32 elements (OCP microscaling formats 1.0)."""

MXFP4_PADDING: Final = (128, 256)
"""Multiples of an expert's width per GPU and of the hidden size (7.01 GiB logged for gpt-oss-20b at TP 2, 7.07 so)."""

_DRAFT_COUNTS: Final = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules")
"""Fields that state how many layers of multi-token prediction a checkpoint has."""


@dataclass(frozen=True)
class _Plan:
    """What one layer consists of before quantisation: an attention block, a feed-forward block, or only one of them."""

    attention: Attention | None
    feed_forward: tuple[Weight, ...]
    top_k: int


def facts_of(
    config: Mapping[str, Any],
    weight_bytes: int | None = None,
    *,
    name: str | None = None,
    checkpoint: Checkpoint | None = None,
) -> ModelFacts:
    """Model facts from a parsed config.json (a `hf_quant_config.json` may stand under `quantization_config`).

    Args:
        config: config.json.
        weight_bytes: exact bytes of the checkpoint, when known.
        name: what to call the model.
        checkpoint: the checkpoint's tensors, when their headers were read.

    Raises:
        UnknownModelError: an architecture without the fields of a language model.
        RecommenderError: a missing or impossible field, naming it.
    """
    try:
        return _facts(config, weight_bytes, name, checkpoint)
    except RecommenderError:
        raise
    except (TypeError, ValueError, AttributeError, KeyError, IndexError, ArithmeticError, RecursionError) as error:
        # A field of a type that no config.json has: whatever it is, it is told in one line.
        raise RecommenderError(
            f"model {name or 'config.json'}: a field of config.json has an unexpected form ({shown(error)}): "
            "use the config.json of the checkpoint"
        ) from error


def _facts(
    config: Mapping[str, Any], weight_bytes: int | None, name: str | None, checkpoint: Checkpoint | None
) -> ModelFacts:
    fields = Fields(config, name or "config.json")
    named = name or str(fields.outer.get("_name_or_path") or "config.json")
    architecture = _architecture(fields)
    if fields.get("hidden_size", "n_embd", "d_model") is None:
        raise UnknownModelError(
            f"model {named}: architecture {architecture} has no hidden_size: only language models are understood"
        )
    if fields.get("num_attention_heads", "n_head", "num_heads", "n_heads") is None and fields.get("state_size"):
        raise UnknownModelError(
            f"model {named}: architecture {architecture} has no attention: models of recurrent layers alone are not "
            "understood, hybrids with attention layers are"
        )
    if fields.flag("is_encoder_decoder"):
        raise UnknownModelError(f"model {named}: encoder-decoder architecture {architecture} is not understood")
    if weight_bytes is not None and (not is_real(weight_bytes) or weight_bytes <= 0):
        raise RecommenderError(f"weight_bytes must be above zero, got {shown(weight_bytes)}")
    quantization = quantization_of(fields.outer)
    dtype = _dtype(fields)
    plain = DTYPE_BYTES[dtype] * 8.0
    plans = _plans(fields)
    layers = _layers(plans, quantization, plain, _expert_bits(fields))
    embedding, head = _ends(fields, quantization, plain)
    return ModelFacts(
        name=named,
        architecture=architecture,
        hidden_size=fields.number("hidden_size", "n_embd", "d_model"),
        num_attention_heads=blocks.attention_heads(fields),
        vocab_size=fields.number("vocab_size"),
        max_position_embeddings=longest_context(fields),
        dtype=dtype,
        layers=layers,
        embedding=embedding,
        head=head,
        final_norm=Weight("norm", _final_norm(fields), split=Split.REPLICATED, bits=plain, linear=False),
        vision=vision_weights(fields),
        rotary_bytes=_rotary_bytes(fields, DTYPE_BYTES[dtype]),
        quantization=quantization,
        weight_bytes=checkpoint.total_bytes if checkpoint is not None and weight_bytes is None else weight_bytes,
        checkpoint=checkpoint,
        draft_layers=_draft_layers(fields, plans, quantization, plain),
        approximate=approximated(architecture, str(fields.get("model_type") or "")),
    )


def _final_norm(fields: Fields) -> int:
    """Elements outside the layers beside embedding and head: the last norm, learned positions, Phi's head bias."""
    hidden, family = fields.number("hidden_size", "n_embd", "d_model"), str(fields.get("model_type") or "")
    elements = 2 * hidden if family in blocks.LAYER_NORMED else hidden
    if family == "phi":
        return elements + fields.number("vocab_size")
    if family in ("gpt2", "opt"):
        # OPT has two positions more than it has room for.
        return elements + (longest_context(fields) + (2 if family == "opt" else 0)) * hidden
    return elements


def _architecture(fields: Fields) -> str:
    named = fields.sequence("architectures") or ()
    return str(named[0]) if named else "unknown"


def _draft_layers(
    fields: Fields, plans: Sequence[_Plan], quantization: Quantization | None, plain: float
) -> tuple[Layer, ...]:
    """Multi-token prediction layers: the model's last kind of attention layer after a projection of two hidden states.

    Their weights follow the model's quantisation by the place after the last layer.
    """
    count = fields.number(*_DRAFT_COUNTS, default=0, least=0, most=MOST_LAYERS)
    attends = [plan for plan in plans if plan.attention is not None and isinstance(plan.attention.cache, TokenCache)]
    if not count or not attends:
        return ()
    last = attends[-1]
    if not last.feed_forward:
        # One block a layer: the drafter has both.
        last = replace(last, feed_forward=plans[-1].feed_forward, top_k=plans[-1].top_k)
    hidden = fields.number("hidden_size", "n_embd", "d_model")
    joined = Weight("eh_proj", hidden, 2 * hidden, Split.REPLICATED)
    plan = replace(last, feed_forward=(*last.feed_forward, joined))
    return _layers([plan] * count, quantization, plain, _expert_bits(fields), first=len(plans))


def _dtype(fields: Fields) -> str:
    stated = str(fields.get("torch_dtype", "dtype") or "bfloat16").removeprefix("torch.")
    if stated not in DTYPE_BYTES:
        raise RecommenderError(
            f"model {fields.name}: torch_dtype {stated!r} is not known: use one of {', '.join(DTYPE_BYTES)}"
        )
    # vLLM runs checkpoints stored in float32 as float16 or bfloat16 unless told otherwise.
    return "bfloat16" if stated in ("float32", "float") else stated


def _rope_scaling(fields: Fields) -> Mapping[str, Any]:
    """How positions are scaled; transformers 5 writes it under another name."""
    return fields.section("rope_scaling") or fields.section("rope_parameters") or {}


def longest_context(fields: Fields) -> int:
    """Longest context that vLLM lets a model have (`_get_and_verify_max_len`).

    Position scaling by a factor lengthens it, from the original length where that is YaRN; Gemma 3 and the schemes that
    state the final length themselves are left alone.
    """
    longest = fields.number("max_position_embeddings", "max_seq_len", "n_positions", "seq_length", default=2048)
    scaling = _rope_scaling(fields)
    kind = str(scaling.get("rope_type") or scaling.get("type") or "default")
    final = kind in ("su", "longrope", "llama3", "mrope", "default")
    if final or str(fields.get("model_type") or "").startswith("gemma3"):
        return longest
    factor = positive(scaling.get("factor"), f"model {fields.name}: rope_scaling.factor", 1.0)
    if kind == "yarn" and scaling.get("original_max_position_embeddings") is not None:
        section = Fields(scaling, f"{fields.name}: rope_scaling")
        return int(section.number("original_max_position_embeddings") * factor)
    return int(longest * factor)


def _rotary_bytes(fields: Fields, dtype_bytes: int) -> int:
    """Bytes of the cos and sin tables: positions x rotary elements.

    Linear scaling lengthens the table by its factor; models with local and global rotary settings keep two.
    """
    family = str(fields.get("model_type") or "")
    if family in ("gpt2", "opt", "bloom"):
        return 0
    if fields.get("qk_rope_head_dim"):
        rotary = fields.number("qk_rope_head_dim")
    else:
        rotary = int(blocks.head_dim(fields) * fields.factor("partial_rotary_factor", 1.0))
    positions = fields.number("max_position_embeddings", "max_seq_len", "n_positions", "seq_length", default=2048)
    scaling = _rope_scaling(fields)
    if str(scaling.get("rope_type") or scaling.get("type")) == "linear":
        factor = positive(scaling.get("factor"), f"model {fields.name}: rope_scaling.factor", 1.0)
        return int(positions * (factor + (1 if family.startswith("gemma3") else 0)) * rotary * dtype_bytes)
    return positions * rotary * dtype_bytes


def _expert_bits(fields: Fields) -> float | None:
    return MXFP4_BITS if str(fields.get("expert_dtype") or "").lower() == "fp4" else None


def _ends(fields: Fields, quantization: Quantization | None, plain: float) -> tuple[Weight, Weight | None]:
    """The token embedding and the LM head (None when tied)."""
    vocabulary, hidden = fields.number("vocab_size"), fields.number("hidden_size", "n_embd", "d_model")
    embedding = Weight("embed_tokens", vocabulary, hidden, Split.VOCABULARY, bits=plain, linear=False)
    if _tied(fields):
        return embedding, None
    # vLLM quantises an LM head only where the checkpoint names it.
    named = quantization is not None and quantization.bits_of_module is not None
    bits = quantization.bits_for("lm_head", plain) if quantization is not None and named else plain
    return embedding, Weight("lm_head", vocabulary, hidden, Split.VOCABULARY, bits=bits)


def _tied(fields: Fields) -> bool:
    """Whether the LM head shares the embedding: as stated; Gemma, GPT-2 and Falcon tie when nothing is said."""
    for place in (fields.inner, fields.outer):
        stated = place.get("tie_word_embeddings")
        if stated is not None:
            return bool(stated)
    return str(fields.get("model_type") or "").startswith(("gemma", "gpt2", "falcon", "cohere"))


def _layers(
    plans: Sequence[_Plan], quantization: Quantization | None, plain: float, expert_bits: float | None, first: int = 0
) -> tuple[Layer, ...]:
    """Layers with the bits of every weight; identical layers become one object. `first` is the first one's place."""
    known: dict[Layer, Layer] = {}
    layers = []
    for index, plan in enumerate(plans, first):
        part = plan.attention
        base = Layer(
            weights=(*(part.weights if part else ()), *plan.feed_forward),
            cache=part.cache if part else None,
            query_heads=part.heads if part else 0,
            query_dim=part.query_dim if part else 0,
            output_dim=part.output_dim if part else 0,
            top_k=plan.top_k,
            attention_limit=part.limit if part else None,
        )
        layer = _padded(base.with_bits(_bits_of(index, quantization, plain, expert_bits)), quantization)
        layers.append(known.setdefault(layer, layer))
    return tuple(layers)


def _padded(layer: Layer, quantization: Quantization | None) -> Layer:
    """MXFP4 experts are padded to what their kernels multiply in."""
    if quantization is None or quantization.label != "mxfp4" or not layer.top_k:
        return layer
    weights = (replace(w, padding=MXFP4_PADDING) if w.split is Split.EXPERTS and w.linear else w for w in layer.weights)
    return replace(layer, weights=tuple(weights))


def _bits_of(
    index: int, quantization: Quantization | None, plain: float, expert_bits: float | None
) -> Callable[[Weight], float]:
    def bits(weight: Weight) -> float:
        if not weight.linear:
            return plain
        if expert_bits is not None and "experts.0." in weight.module and quantization and quantization.label != "nvfp4":
            return expert_bits
        if quantization is None:
            return plain
        return quantization.bits_for(f"layers.{index}.{weight.module}", plain)

    return bits


def _plans(fields: Fields) -> list[_Plan]:
    pattern = fields.get("hybrid_override_pattern") or fields.sequence("layers_block_type")
    one_block = isinstance(pattern, str) or bool({"mlp", "moe"} & {str(name) for name in pattern or ()})
    if one_block and fields.get("mamba_num_heads", "mamba_n_heads") is not None:
        return _single_block_layers(fields, pattern)
    block_configs = fields.sequence("block_configs")
    if block_configs is not None:
        return [_searched_layer(fields, block) for block in block_configs]
    count = fields.number("num_hidden_layers", "n_layer", "n_layers", "num_layers", most=MOST_LAYERS)
    # Identical layers are built once: a model has tens of layers of two or three kinds.
    feed_forward = _feed_forward_kinds(fields, count)
    attention = _attention_kinds(fields, count)
    plans = [_Plan(attention[i], *feed_forward[i]) for i in range(count)]
    if str(fields.get("model_type") or "") == "falcon_h1":
        # Every layer has a mixer and attention side by side: two layers here, since each keeps one kind of cache.
        mixer = _Plan(recurrent.mamba2(fields, prefix="mamba", norms=0), (), 0)
        return [part for plan in plans for part in (mixer, plan)]
    return plans


def _single_block_layers(fields: Fields, pattern: Any) -> list[_Plan]:
    """Nemotron-H: every layer is one block: Mamba (M), attention (*), dense (-) or experts (E)."""
    letters = {"mamba": "M", "attention": "*", "mlp": "-", "moe": "E"}
    # Names of transformers 5.
    letters |= {"linear_attention": "M", "full_attention": "*"}
    kinds = list(pattern) if isinstance(pattern, str) else [letters.get(str(name), "?") for name in pattern]
    mixer = _Plan(recurrent.mamba2(fields), (), 0)
    attention = _Plan(_renamed(blocks.grouped(fields)), (), 0)
    of_kind: dict[str, _Plan] = {"M": mixer, "*": attention}
    if "-" in kinds:
        of_kind["-"] = _Plan(None, dense(fields, fields.number("intermediate_size"), prefix="mixer"), 0)
    if "E" in kinds:
        of_kind["E"] = _Plan(None, experts(fields, prefix="mixer"), active_experts(fields))
    try:
        return [of_kind[kind] for kind in kinds if kind != "|"]
    except KeyError as missing:
        raise UnknownModelError(
            f"model {fields.name}: layer kind {missing} of hybrid_override_pattern is not known"
        ) from missing


def _renamed(attention: Attention) -> Attention:
    """Attention weights under the name Nemotron-H gives every block."""
    weights = tuple(replace(w, module=w.module.replace("self_attn.", "mixer.")) for w in attention.weights)
    return replace(attention, weights=weights)


def _searched_layer(fields: Fields, block: Mapping[str, Any]) -> _Plan:
    """Nemotron-NAS: each layer has its own number of KV heads and feed-forward width, or none."""
    attention: Attention | None = None
    how = block.get("attention") or {}
    if not how.get("no_op") and not how.get("replace_with_linear"):
        per_group = int(how.get("n_heads_in_group") or 1)
        attention = blocks.grouped(fields, groups=max(1, blocks.attention_heads(fields) // per_group))
    width = block.get("ffn") or {}
    feed_forward: tuple[Weight, ...] = ()
    if not width.get("no_op") and not width.get("replace_with_linear"):
        # As the architecture defines it: two thirds of twice the multiple, rounded up to 256.
        exact = int(2 * float(width.get("ffn_mult") or 1.0) * fields.number("hidden_size") / 3)
        feed_forward = dense(fields, -(-exact // 256) * 256)
    return _Plan(attention, feed_forward, 0)


def _feed_forward_kinds(fields: Fields, count: int) -> list[tuple[tuple[Weight, ...], int]]:
    if not expert_count(fields):
        width = _dense_width(fields)
        return [(dense(fields, width), 0)] * count
    mixture = (experts(fields), active_experts(fields))
    if fields.flag("enable_moe_block"):
        # Gemma 4 runs a dense layer beside the experts.
        mixture = ((*mixture[0], *dense(fields, fields.number("intermediate_size"))), mixture[1])
    kinds = [_is_mixture(fields, index) for index in range(count)]
    if all(kinds):
        return [mixture] * count
    width = fields.number("intermediate_size_mlp", "dense_intermediate_size", "intermediate_size")
    plain = (dense(fields, width), 0)
    return [mixture if kind else plain for kind in kinds]


def _dense_width(fields: Fields) -> int:
    """Width of the feed-forward layers of a model without experts."""
    family = str(fields.get("model_type") or "")
    if family == "granitemoehybrid":
        return fields.number("shared_intermediate_size", "intermediate_size")
    if family == "falcon":
        return fields.number("ffn_hidden_size", default=4 * fields.number("hidden_size"))
    width = fields.number("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim")
    if family.startswith("lfm2") and fields.flag("block_auto_adjust_ff_dim", True):
        # Liquid's: two thirds of what is stated, times a factor, rounded up.
        whole = int(fields.factor("block_ffn_dim_multiplier", 1.0) * int(2 * width / 3))
        multiple = fields.number("block_multiple_of", default=256)
        return -(-whole // multiple) * multiple
    return width


def _is_mixture(fields: Fields, index: int) -> bool:
    """Whether a layer is a mixture of experts, by whichever field the model's family uses."""
    kinds = fields.sequence("mlp_layer_types")
    if kinds is not None and index < len(kinds):
        return str(kinds[index]) == "sparse"
    frequency = fields.get("moe_layer_freq")
    if isinstance(frequency, Sequence) and not isinstance(frequency, str):
        return index < len(frequency) and bool(frequency[index])
    if index < fields.number("first_k_dense_replace", default=0, least=0):
        return False
    if index in (fields.sequence("mlp_only_layers") or ()):
        return False
    if fields.get("expert_layer_period"):
        offset = fields.number("expert_layer_offset", default=0, least=0)
        return (index - offset) % fields.number("expert_layer_period") == 0
    step = fields.number("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_freq", default=1)
    return (index + 1) % step == 0


def _attention_kinds(fields: Fields, count: int) -> list[Attention]:
    made: dict[str, Attention] = {}

    def kind(key: str, make: Callable[[], Attention]) -> Attention:
        if key not in made:
            made[key] = make()
        return made[key]

    ratios = fields.sequence("compress_ratios")
    if ratios is not None:
        return [kind(f"r{r}", lambda r=r: blocks.compressed(fields, int(r))) for r in ratios[:count]]  # type: ignore[misc]
    linear = fields.section("linear_attn_config")
    if linear is not None:
        without = {int(layer) - 1 for layer in linear.get("kda_layers") or ()}
        return [
            kind("kda", lambda: recurrent.kimi_delta(fields))
            if i in without
            else kind("mla", lambda: blocks.latent(fields))
            for i in range(count)
        ]
    if fields.get("kv_lora_rank"):
        return [kind("mla", lambda: blocks.latent(fields))] * count
    names = _attention_names(fields, count)
    shared_from = count - fields.number("num_kv_shared_layers", default=0, least=0)
    layers = [kind(name, lambda name=name: _named_attention(fields, name)) for name in names]  # type: ignore[misc]
    return [layer if i < shared_from else replace(layer, cache=None) for i, layer in enumerate(layers)]


def _attention_names(fields: Fields, count: int) -> list[str]:
    """The kind of every layer's block: `full`, `sliding`, `chunked`, `linear`, `mamba` or `conv`."""
    stated = fields.sequence("layer_types", "layers_block_type")
    if stated is not None:
        return [_name_of(str(name)) for name in stated[:count]]
    attends = _attends(fields, count)
    if attends is not None:
        recurring = "linear" if fields.get("attn_type_list") is not None else "mamba"
        return ["full" if at else recurring for at in attends]
    pattern = fields.sequence("hybrid_layer_pattern")
    if pattern is not None:
        return ["sliding" if value else "full" for value in pattern[:count]]
    if str(fields.get("model_type") or "").startswith("llama4"):
        # Every fourth layer attends to everything, without rotary positions.
        return ["full" if (i + 1) % 4 == 0 else "chunked" for i in range(count)]
    if fields.get("linear_num_value_heads"):
        interval = fields.number("full_attention_interval", default=4)
        return ["full" if (i + 1) % interval == 0 else "linear" for i in range(count)]
    if not fields.get("sliding_window") or fields.get("use_sliding_window") is False:
        return ["full"] * count
    interval = fields.get("sliding_window_pattern")
    if interval is None:
        family = str(fields.get("model_type") or "")
        interval = 6 if family.startswith("gemma3") else 2 if family == "gemma2" else 0
    if int(interval) > 1:
        return ["full" if (i + 1) % interval == 0 else "sliding" for i in range(count)]
    return ["sliding"] * count


def _attends(fields: Fields, count: int) -> list[bool] | None:
    """Which layers attend, of models that say it by number, list or period; None of all others."""
    kinds = fields.sequence("attn_type_list")
    if kinds is not None:
        return [bool(kind) for kind in kinds[:count]]
    listed = fields.sequence("attn_layer_indices")
    if listed is not None:
        return [index in listed for index in range(count)]
    if fields.get("attn_layer_period"):
        period, offset = fields.number("attn_layer_period"), fields.number("attn_layer_offset", default=0, least=0)
        return [index % period == offset for index in range(count)]
    return None


def _name_of(layer_type: str) -> str:
    for name in ("sliding", "chunked", "linear", "mamba", "conv"):
        if layer_type.startswith(name):
            return name
    return "full"


def _named_attention(fields: Fields, name: str) -> Attention:
    if name in ("linear", "mamba"):
        # Transformers 5 calls Mamba linear attention too.
        if fields.get("mamba_n_heads", "mamba_num_heads") is not None:
            return recurrent.mamba2(fields, prefix="mamba", norms=2)
        if fields.get("mamba_d_state", "state_size") is not None:
            return recurrent.mamba1(fields)
        return recurrent.delta_net(fields) if fields.get("linear_num_value_heads") else recurrent.lightning(fields)
    if name == "conv":
        return recurrent.short_convolution(fields)
    if name == "chunked":
        return blocks.grouped(fields, window=fields.number("attention_chunk_size"), chunked=True)
    if name == "sliding":
        window = fields.number("sliding_window", "sliding_window_size")
        if str(fields.get("model_type") or "") == "cohere2":
            # Its definition counts the token itself out, vLLM counts it in.
            window += 1
        if fields.get("swa_num_key_value_heads"):
            return blocks.grouped(
                fields,
                window=window,
                heads=fields.number("swa_num_attention_heads"),
                groups=fields.number("swa_num_key_value_heads"),
                key_dim=fields.number("swa_head_dim"),
                value_dim=fields.number("swa_v_head_dim"),
            )
        return blocks.grouped(fields, window=window)
    if fields.get("global_head_dim"):
        same = fields.flag("attention_k_eq_v")
        groups = fields.number("num_global_key_value_heads", "num_key_value_heads") if same else None
        return blocks.grouped(fields, groups=groups, key_dim=fields.number("global_head_dim"), keys_are_values=same)
    return blocks.grouped(fields)
