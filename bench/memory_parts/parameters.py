"""Parameter counts that the hub publishes of safetensors checkpoints, against ours from config.json alone."""

from __future__ import annotations

import statistics
from typing import Final

from bench.figures import Figure

from plimsoll_recommender import ModelFacts

PUBLISHED: Final = {
    # `safetensors.total` of the model pages on huggingface.co, where nothing is stored twice.
    "01-ai/Yi-34B-Chat": 34_388_917_248,
    "Qwen/Qwen1.5-MoE-A2.7B": 14_315_784_192,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-14B": 14_770_033_664,
    "Qwen/Qwen2.5-72B": 72_706_203_648,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "Qwen/Qwen3-14B": 14_768_307_200,
    "Qwen/Qwen3-235B-A22B": 235_093_634_560,
    "Qwen/Qwen3-30B-A3B": 30_532_122_624,
    "Qwen/Qwen3-32B": 32_762_123_264,
    "Qwen/Qwen3-4B": 4_022_468_096,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-Coder-480B-A35B-Instruct": 480_154_875_392,
    "Qwen/Qwen3-VL-30B-A3B-Instruct": 31_070_754_032,
    "Qwen/Qwen3-VL-8B-Instruct": 8_767_123_696,
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": 1_100_048_384,
    "deepseek-ai/DeepSeek-V2-Lite-Chat": 15_706_484_224,
    "google/gemma-2-27b-it": 27_227_128_320,
    "google/gemma-2-9b-it": 9_241_705_984,
    "google/gemma-3-12b-it": 12_187_325_040,
    "google/gemma-3-1b-it": 999_885_952,
    "google/gemma-3-27b-it": 27_432_406_640,
    "google/gemma-7b": 8_537_680_896,
    "meta-llama/Llama-2-13b-hf": 13_015_864_320,
    "meta-llama/Llama-2-70b-hf": 68_976_648_192,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": 108_641_793_536,
    "meta-llama/Meta-Llama-3.1-405B": 405_853_388_800,
    "meta-llama/Meta-Llama-3.1-70B": 70_553_706_496,
    "meta-llama/Meta-Llama-3.1-8B": 8_030_261_248,
    "microsoft/Phi-3-mini-4k-instruct": 3_821_079_552,
    "microsoft/phi-2": 2_779_683_840,
    "microsoft/phi-4": 14_659_507_200,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "mistralai/Mistral-Large-Instruct-2411": 122_610_069_504,
    "mistralai/Mistral-Nemo-Instruct-2407": 12_247_782_400,
    "mistralai/Mixtral-8x7B-v0.1": 46_702_792_704,
    "moonshotai/Kimi-VL-A3B-Instruct": 16_407_657_776,
    "nvidia/Llama-3_3-Nemotron-Super-49B-v1": 49_867_145_216,
    "openai/gpt-oss-120b": 116_829_156_672,
    "openai/gpt-oss-20b": 20_914_757_184,
}


def parameter_figures() -> list[Figure]:
    """How many counts are the published ones to the last parameter, and the worst error."""
    errors = {}
    for name, published in PUBLISHED.items():
        errors[name] = abs(ModelFacts.load(name).parameters / published - 1) * 100
    exact = sum(error == 0 for error in errors.values())
    worst = max(errors, key=lambda name: errors[name])
    return [
        Figure("parameters as published, to the last one", exact, "models", None, ">=", f"of {len(errors)}"),
        Figure("parameters, median error", statistics.median(errors.values()), "%", 0.01, "<=", "from config alone"),
        Figure("parameters, worst error", errors[worst], "%", 0.1, "<=", worst),
    ]
