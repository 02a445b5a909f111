"""A tiny Llama with random weights, so that real vLLM can run without a GPU and without a download.

`ensure()` makes it in the environment of vLLM's CPU build: this file is run there as a script, because transformers,
tokenizers and torch are installed there and not in Plimsoll's environment. It imports nothing of Plimsoll at the top.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from plimsoll_runtime.vllm_environment import VllmEnvironment

RECIPE: Final = 1
"""Raised when the recipe changes, so that a cached model of an older one is not used."""

VOCABULARY: Final = 512
HIDDEN_SIZE: Final = 128
LAYERS: Final = 4
HEADS: Final = 4
KV_HEADS: Final = 2
MAX_POSITION: Final = 2048
SEED: Final = 7

CHAT_TEMPLATE: Final = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

_MARKER: Final = ".complete"


def model_directory(root: Path) -> Path:
    """Where the model of an environment is kept: beside the environment, by recipe."""
    return root.parent / f"tiny-llama-{RECIPE}"


def ensure(environment: VllmEnvironment) -> Path:
    """The directory of the tiny model, made now (in some 20 s) when it is not there.

    Raises:
        VllmUnavailableError: the script failed in that environment.
    """
    from plimsoll_runtime.vllm_environment import VllmUnavailableError

    target = model_directory(environment.root)
    if (target / _MARKER).is_file():
        return target
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    done = subprocess.run(
        [str(environment.python), str(Path(__file__).resolve()), str(partial)],
        env=environment.variables(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        said = " | ".join(done.stderr.strip().splitlines()[-4:])
        raise VllmUnavailableError(f"the tiny model could not be made with {environment.python}: {said}")
    (partial / _MARKER).write_text(f"recipe {RECIPE}\n")
    try:
        partial.rename(target)
    except OSError:
        # Another process made it first; the two are the same.
        if not (target / _MARKER).is_file():
            raise
    return target


def write(directory: Path) -> None:
    """Write model, tokenizer and chat template. Runs with the packages of vLLM's environment."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM  # type: ignore[import-not-found]

    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN_SIZE,
        intermediate_size=4 * HIDDEN_SIZE,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        max_position_embeddings=MAX_POSITION,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    directory.mkdir(parents=True, exist_ok=True)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(directory)
    _tokenizer().save_pretrained(directory)


def _tokenizer() -> Any:
    """Characters are tokens: the printable ones of Latin scripts, then fillers up to the vocabulary."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers  # type: ignore[import-not-found]
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>", "<unk>"]
    characters = ["\n", *(chr(code) for code in range(0x20, 0x7F)), *(chr(code) for code in range(0xA1, 0x180))]
    tokens = special + characters
    tokens += [chr(0x4E00 + index) for index in range(VOCABULARY - len(tokens))]
    model = models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="<unk>")  # noqa: S106
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",  # noqa: S106
        bos_token="<s>",  # noqa: S106
        eos_token="</s>",  # noqa: S106
        unk_token="<unk>",  # noqa: S106
        chat_template=CHAT_TEMPLATE,
    )


if __name__ == "__main__":
    write(Path(sys.argv[1]))
