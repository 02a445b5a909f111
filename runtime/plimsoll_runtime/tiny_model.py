"""A tiny model for trying the real engine where there is no GPU: random weights, made on the spot, nothing downloaded.

Run by the interpreter of vLLM's environment (it has torch, tokenizers and transformers; the project's own has not):
`python tiny_model.py FOLDER`. Nothing of the project is imported here for that reason.
"""

from __future__ import annotations

import json
import string
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

SEED: Final = 7
VOCABULARY: Final = 512
CONTEXT: Final = 2048
CONFIG: Final[dict[str, Any]] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""A Llama of four small layers: every code path of the real engine, milliseconds a step."""

_SPECIAL: Final = ("<unk>", "<s>", "</s>")
_CHAT_TEMPLATE: Final = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "


def ensure(folder: Path, python: Path) -> Path:
    """The model's folder, made with the given interpreter when it is not there.

    Raises:
        RuntimeError: the model cannot be made; the message carries the end of the output.
    """
    if not (folder / "model.safetensors").is_file():
        done = subprocess.run(
            [str(python), str(Path(__file__).resolve()), str(folder)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError("the tiny model cannot be made:\n" + "\n".join(done.stderr.splitlines()[-15:]))
    return folder


def vocabulary() -> list[str]:
    """One token a character, then filler tokens that nothing encodes to, up to the vocabulary's size."""
    characters = list(_SPECIAL) + sorted(set(string.printable))
    return characters + [f"<{number}>" for number in range(len(characters), VOCABULARY)]


def write_tokenizer(folder: Path) -> None:
    """A character-level tokenizer in the files that transformers reads."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers  # type: ignore[import-not-found]

    tokens = {token: number for number, token in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(tokens, unk_token=_SPECIAL[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(list(_SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    description = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": _SPECIAL[0],
        "bos_token": _SPECIAL[1],
        "eos_token": _SPECIAL[2],
        "chat_template": _CHAT_TEMPLATE,
        "model_max_length": CONTEXT,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(description, indent=2))


def write_weights(folder: Path) -> None:
    """Random weights, the same each time."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM  # type: ignore[import-not-found]

    torch.manual_seed(SEED)
    options = {key: value for key, value in CONFIG.items() if key not in ("architectures", "model_type", "torch_dtype")}
    model = LlamaForCausalLM(LlamaConfig(**options)).to(torch.bfloat16)
    model.save_pretrained(folder, safe_serialization=True)


def make(folder: Path) -> None:
    """Write the model into a folder: weights last, so that a folder with weights is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tokenizer(folder)
    write_weights(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
