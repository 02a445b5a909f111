"""Bits per weight: what a checkpoint's quantisation settings say of each module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from plimsoll_recommender.errors import RecommenderError
from plimsoll_recommender.facts.module_names import Modules, canonical_module, runs_of

ROW_SCALE_BITS: Final = 16 / 4096
"""One 16-bit scale per output row: bits per element at a typical row of 4096."""

FP8_BLOCK_BITS: Final = 32 / (128 * 128)
"""One fp32 scale per 128 x 128 block (DeepSeek-V3's layout)."""

ACT_ORDER_BITS: Final = 64 / 4096
"""GPTQ's activation order: two 32-bit indices per input, at a typical matrix of 4096 rows."""

LOAD_TIME_BITS: Final = {"fp8": 8 + ROW_SCALE_BITS, "bitsandbytes": 4.5, "mxfp8": 8.25, "experts_int8": 8.0}
"""Bits per element of vLLM's load-time quantisations of a checkpoint that has none (--quantization)."""

QUANTIZATION_FILE: Final = "hf_quant_config.json"
"""Where NVIDIA's checkpoints state their quantisation beside config.json."""


@dataclass(frozen=True)
class Quantization:
    """How a checkpoint stores its linear layers.

    Args:
        label: the scheme, such as `fp8`, `nvfp4`, `mxfp4`, `w4a16`, `w8a8`.
        bits: bits per element of a quantised weight, scales included.
        compute: type the tensor cores multiply in: `fp8`, `fp4`, `mxfp4`, `int8`; `16bit` when weights are expanded.
        ignore: modules left unquantised.
        only: modules that are quantised; None is all linear layers.
        bits_of_module: bits per element of single modules (mixed precision), by name.
        others: sets of modules stored with other bits, before everything but `ignore`.
        kv_cache: type of the KV cache that the checkpoint asks for, or None.
    """

    label: str
    bits: float
    compute: str
    ignore: Modules | None = field(default=None, compare=False)
    only: Modules | None = field(default=None, compare=False)
    bits_of_module: Mapping[str, float] | None = field(default=None, compare=False)
    others: tuple[tuple[Modules, float], ...] = field(default=(), compare=False)
    kv_cache: str | None = None

    def bits_for(self, module: str, unquantised: float) -> float:
        """Bits per element of a linear module (`layers.3.self_attn.q_proj`)."""
        if self.bits_of_module is not None:
            listed = next((self.bits_of_module[part] for part in runs_of(module) if part in self.bits_of_module), None)
            if listed is not None:
                return listed
        if self.ignore is not None and module in self.ignore:
            return unquantised
        for modules, bits in self.others:
            if module in modules:
                return bits or unquantised
        if self.bits_of_module is not None and not self.bits:
            return unquantised
        if self.only is not None and module not in self.only:
            return unquantised
        return self.bits


def with_quantization(config: Mapping[str, Any], document: Mapping[str, Any] | None) -> dict[str, Any]:
    """A config.json with the quantisation of a `hf_quant_config.json`, where it states none of its own."""
    merged = dict(config)
    if document is not None and not merged.get("quantization_config"):
        merged["quantization_config"] = document
    return merged


def quantization_of(config: Mapping[str, Any]) -> Quantization | None:
    """The quantisation of a checkpoint from its config.json; None when it stores plain weights.

    A `hf_quant_config.json` may stand under the same key, as NVIDIA's checkpoints ship it.

    Raises:
        RecommenderError: a scheme that is not understood.
    """
    settings = config.get("quantization_config") or config.get("compression_config")
    text = config.get("text_config")
    if settings is None and isinstance(text, Mapping):
        settings = text.get("quantization_config")
    if not isinstance(settings, Mapping):
        return None
    settings = settings.get("quantization", settings)
    method = str(settings.get("quant_method") or settings.get("quant_algo") or "").lower()
    reader = {
        "fp8": _fp8,
        "fbgemm_fp8": _fp8,
        "deepseek_v4_fp8": _fp8,
        "compressed-tensors": _compressed_tensors,
        "modelopt": _modelopt,
        "modelopt_fp4": _modelopt,
        "nvfp4": _modelopt,
        "mixed_precision": _modelopt,
        "mxfp4": _mxfp4,
        "awq": _grouped,
        "gptq": _grouped,
        "awq_marlin": _grouped,
        "gptq_marlin": _grouped,
        "auto-round": _grouped,
        "auto_round": _grouped,
        "moe_wna16": _grouped,
        "gptq_bitblas": _grouped,
        "inc": _grouped,
        "quark": _quark,
        "ptpc_fp8": _fp8,
        "bitsandbytes": _bitsandbytes,
    }.get(method)
    if "quant_algo" in settings:
        reader = _modelopt
    if method == "gguf":
        raise RecommenderError(
            "quantization_config.quant_method gguf: sizes of GGUF files are not read: give the model it was converted "
            "from, or an AWQ or GPTQ checkpoint of it"
        )
    if reader is None:
        raise RecommenderError(
            f"quantization_config.quant_method {method!r} is not understood: give the checkpoint's bytes as "
            "weight_bytes and remove quantization_config"
        )
    return reader(settings)


def _names(settings: Mapping[str, Any], *keys: str) -> Modules | None:
    for key in keys:
        value = settings.get(key)
        if isinstance(value, Sequence) and not isinstance(value, str) and value:
            return Modules(str(item) for item in value)
    return None


def _fp8(settings: Mapping[str, Any]) -> Quantization:
    scale = FP8_BLOCK_BITS if settings.get("weight_block_size") else ROW_SCALE_BITS
    ignore = _names(settings, "modules_to_not_convert", "ignored_layers")
    return Quantization("fp8", 8 + scale, "fp8", ignore)


def _mxfp4(settings: Mapping[str, Any]) -> Quantization:
    # 4 bits and one 8-bit exponent per 32 elements. vLLM quantises only the experts of gpt-oss.
    return Quantization("mxfp4", 4.25, "mxfp4", _names(settings, "modules_to_not_convert"), only=Modules(("experts",)))


def _grouped(settings: Mapping[str, Any]) -> Quantization:
    """AWQ, GPTQ and AutoRound: a 16-bit scale and a zero point of the weight's width per group."""
    bits = float(settings.get("bits") or settings.get("w_bit") or 4)
    group = float(settings.get("group_size") or settings.get("q_group_size") or 128)
    stored = _grouped_bits(bits, group, act_order=bool(settings.get("desc_act")))
    ignore, others = [], []
    # GPTQModel's rules: `-:` leaves modules out, `+:` (or nothing) stores them otherwise.
    for pattern, how in _mapping(settings.get("dynamic")).items():
        if pattern.startswith("-:"):
            ignore.append(f"re:{pattern[2:]}")
        else:
            own = _mapping(how)
            other = _grouped_bits(float(own.get("bits") or bits), float(own.get("group_size") or group))
            others.append((Modules([f"re:{pattern.removeprefix('+:')}"]), other))
    # AutoRound states single modules: 16 bits are unquantised.
    for module, how in _mapping(settings.get("extra_config")).items():
        own_bits = float(_mapping(how).get("bits") or bits)
        other = 0.0 if own_bits >= 16 else _grouped_bits(own_bits, float(_mapping(how).get("group_size") or group))
        others.append((Modules([str(module)]), other))
    listed = _list(settings, "modules_to_not_convert", "modules_to_not_quantize")
    left_out = Modules([*ignore, *listed])
    only = _list(settings, "modules_in_block_to_quantize")
    return Quantization(
        f"w{bits:g}a16",
        stored,
        "16bit",
        left_out if left_out else None,
        Modules(only) if only else None,
        others=tuple(others),
    )


def _grouped_bits(bits: float, group: float, *, act_order: bool = False) -> float:
    """Bits per element with a scale and a zero point per group (per row when the group is -1)."""
    scale = (16 + bits) / group if group > 0 else ROW_SCALE_BITS
    return bits + scale + (ACT_ORDER_BITS if act_order else 0.0)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(settings: Mapping[str, Any], *keys: str) -> list[str]:
    """The first of the keys that is a list, flattened (GPTQ lists the modules of a block in lists)."""
    for key in keys:
        value = settings.get(key)
        if isinstance(value, Sequence) and not isinstance(value, str) and value:
            flat: list[str] = []
            for item in value:
                flat += [str(part) for part in item] if isinstance(item, list | tuple) else [str(item)]
            return flat
    return []


def _quark(settings: Mapping[str, Any]) -> Quantization:
    """AMD Quark: one setting for all linear layers, others by layer name."""

    def stored(how: Mapping[str, Any]) -> tuple[float, str]:
        weight = how.get("weight")
        first = _mapping(weight[0] if isinstance(weight, list) and weight else weight)
        kind = str(first.get("dtype") or "")
        if kind == "fp4":
            return 4 + 8 / float(first.get("group_size") or 32), "mxfp4"
        if kind.startswith("fp8"):
            return 8 + ROW_SCALE_BITS, "fp8"
        if kind == "int8":
            return 8 + ROW_SCALE_BITS, "w8a8"
        raise RecommenderError(
            f"quantization_config: Quark weights of dtype {kind!r} are not understood: give the checkpoint's bytes as "
            "weight_bytes and remove quantization_config"
        )

    bits, label = stored(_mapping(settings.get("global_quant_config")))
    others = tuple(
        (Modules([str(name)]), stored(_mapping(how))[0])
        for name, how in _mapping(settings.get("layer_quant_config")).items()
    )
    compute = {"mxfp4": "mxfp4", "fp8": "fp8", "w8a8": "int8"}[label]
    return Quantization(label, bits, compute, _names(settings, "exclude"), others=others, kv_cache=_kv_type(settings))


def _bitsandbytes(settings: Mapping[str, Any]) -> Quantization:
    bits = 4.5 if settings.get("load_in_4bit") else 8.0
    return Quantization("bitsandbytes", bits, "16bit", _names(settings, "llm_int8_skip_modules"))


def _compressed_tensors(settings: Mapping[str, Any]) -> Quantization:
    """Groups of modules with a scheme each; the group of all linear layers, else the first, gives the label."""
    groups = [_mapping(group) for group in _mapping(settings.get("config_groups")).values()]
    if not groups:
        raise RecommenderError("quantization_config.config_groups is empty: give the weights' num_bits and type")
    read = []
    for group in groups:
        targets = [str(target) for target in group.get("targets") or ("Linear",)]
        read.append((targets, _scheme(_mapping(group.get("weights")), group.get("input_activations"))))
    base = next((entry for entry in read if "Linear" in entry[0]), read[0])
    targets, (bits, label, compute) = base
    others = tuple((Modules(entry[0]), entry[1][0]) for entry in read if entry is not base)
    only = None if "Linear" in targets else Modules(targets)
    return Quantization(
        label, bits, compute, _names(settings, "ignore"), only, others=others, kv_cache=_kv_type(settings)
    )


def _scheme(weights: Mapping[str, Any], activations: Mapping[str, Any] | None) -> tuple[float, str, str]:
    """(bits per element, label, compute type) of one weight group of compressed-tensors or modelopt."""
    bits = int(weights.get("num_bits") or 8)
    group = weights.get("group_size")
    floating = str(weights.get("type") or "int") == "float"
    if bits == 4 and floating:
        size = int(group or 16)
        return 4 + 8 / size, "mxfp4" if size == 32 else "nvfp4", "fp4" if activations else "16bit"
    zero = 0 if weights.get("symmetric", True) else bits
    scale = (16 + zero) / int(group) if group and int(group) > 0 else ROW_SCALE_BITS
    if weights.get("block_structure"):
        scale = FP8_BLOCK_BITS
    if weights.get("actorder"):
        scale += ACT_ORDER_BITS
    if activations is None:
        return bits + scale, f"w{bits}a16", "16bit"
    if floating:
        return bits + scale, "fp8", "fp8"
    return bits + scale, f"w{bits}a{int(activations.get('num_bits') or bits)}", "int8"


_MODELOPT_BITS: Final = {
    "FP8": 8 + ROW_SCALE_BITS,
    "FP8_PER_CHANNEL_PER_TOKEN": 8 + ROW_SCALE_BITS,
    "FP8_PB_WO": 8 + FP8_BLOCK_BITS,
    "INT8_SQ": 8 + ROW_SCALE_BITS,
    "MXFP8": 8.25,
    "NVFP4": 4.5,
    "W4A16_NVFP4": 4.5,
    "W4A8_AWQ": 4.125,
    "W4A16_AWQ": 4.125,
}
"""Bits per element by modelopt's algorithm: NVFP4 has an 8-bit scale per 16 elements, MXFP8 per 32."""


def _modelopt(settings: Mapping[str, Any]) -> Quantization:
    algorithm = str(settings.get("quant_algo") or "").upper()
    ignore = _names(settings, "exclude_modules", "ignore")
    kv = _kv_type(settings)
    layers = settings.get("quantized_layers")
    if algorithm == "MIXED_PRECISION" and isinstance(layers, Mapping):
        return _mixed(settings, layers, ignore, kv)
    if algorithm in _MODELOPT_BITS:
        compute = "fp8" if "FP8" in algorithm else {"NVFP4": "fp4", "INT8_SQ": "int8"}.get(algorithm, "16bit")
        return Quantization(algorithm.lower(), _MODELOPT_BITS[algorithm], compute, ignore, kv_cache=kv)
    if settings.get("config_groups"):
        found = _compressed_tensors(settings)
        return replace(found, ignore=ignore, kv_cache=kv)
    raise RecommenderError(
        f"quantization_config.quant_algo {algorithm!r} is not understood: use one of {', '.join(_MODELOPT_BITS)}"
    )


def _mixed(
    settings: Mapping[str, Any], layers: Mapping[str, Any], ignore: Modules | None, kv: str | None
) -> Quantization:
    """Mixed precision: an algorithm per module; what is not listed keeps the checkpoint's block fp8, or 16 bits."""
    of_module: dict[str, float] = {}
    algorithms = set()
    for name, how in layers.items():
        algorithm = str(how.get("quant_algo") or "").upper()
        algorithms.add(algorithm)
        # One setting holds for all experts of a layer.
        of_module[canonical_module(str(name)).split(".experts.")[0] + (".experts" if ".experts." in name else "")] = (
            _MODELOPT_BITS.get(algorithm, 16.0)
        )
    base = 8 + FP8_BLOCK_BITS if settings.get("weight_block_size") else 0.0
    compute = "fp4" if "NVFP4" in algorithms else "fp8" if "FP8" in algorithms else "16bit"
    return Quantization("nvfp4", base, compute, ignore, bits_of_module=of_module, kv_cache=kv)


def _kv_type(settings: Mapping[str, Any]) -> str | None:
    algorithm = str(settings.get("kv_cache_quant_algo") or "").upper()
    scheme = settings.get("kv_cache_scheme")
    if algorithm == "NVFP4" or (isinstance(scheme, Mapping) and scheme.get("num_bits") == 4):
        return "nvfp4"
    if algorithm == "FP8" or (isinstance(scheme, Mapping) and scheme.get("num_bits") == 8):
        return "fp8"
    return None
