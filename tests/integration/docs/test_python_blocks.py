"""Every Python block of the documentation runs, with what its page takes for granted given to it."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any, Final

import pytest

from documentation.pages import PAGES, ROOT, Piece, pieces

pytestmark = [pytest.mark.api_server, pytest.mark.slow, pytest.mark.xdist_group("control_plane")]

SERVICE: Final = """
from plimsoll_recommender import EngineConfig, ModelFacts, Objectives, Workload, accelerator
facts, gpu, config = ModelFacts.load("meta-llama/Llama-3.1-8B-Instruct"), accelerator("H100"), EngineConfig()
workload, objectives = Workload(requests_per_second=2), Objectives(ttft=2.0, tpot=0.1)
"""
GIVEN: Final = {
    "docs/contracts.md": "",
    "docs/flows/correction.md": f"""{SERVICE}
log_text = '''
INFO [core.py] Initializing a V1 LLM engine (v0.10.2) with config: model='meta-llama/Llama-3.1-8B-Instruct', \
dtype=torch.bfloat16, max_seq_len=8192, tensor_parallel_size=1, enforce_eager=True, kv_cache_dtype=auto
INFO [gpu_worker.py] Available KV cache memory: 54.10 GiB
INFO [kv_cache_utils.py] GPU KV cache size: 443,152 tokens
'''
""",
    "docs/flows/measured-transfer.md": """
import numpy
from plimsoll_recommender.transfer.constants import Constant, apart, fit_constants, slopes
from plimsoll_recommender.transfer.covariance import Linear, Rows, Same, Smooth, Term, Within
from plimsoll_recommender.transfer.residual import fit
models, gpus = tuple(f"m{n // 4}" for n in range(24)), tuple("ab"[n % 2] for n in range(24))
log2_users = numpy.arange(24) % 4.0
measured, tolerances = 0.02 + 0.001 * numpy.random.default_rng(0).random(24), numpy.full(24, 0.1)
def law(values):
    return numpy.log(values["host seconds"] + 0.01 * 2.0 ** (0.1 * log2_users) / values["bandwidth reached"])
rows_of_the_unseen_model = Rows(
    groups=("new",), numbers={name: numpy.ones(1) for name in ("users", "host", "bandwidth")}, labels={"gpu": ("a",)}
)
""",
    "docs/flows/replay.md": """
from plimsoll_simulator.traffic.published import shape
traffic_model = shape("azure2023-conv", mean_rate=1.0, duration=20.0)
""",
    "docs/flows/tasks.md": f"{SERVICE}\nfrom plimsoll_recommender import ObservedRequest\n"
    "newer = [ObservedRequest(300 + n, 30 + n % 40) for n in range(400)]\n",
}
"""Names that a page's text speaks of before its block uses them."""
BLOCKS: Final = [piece for page in PAGES for piece in pieces(page) if piece.language == "python"]


def run(code: str, origin: str, names: dict[str, Any]) -> dict[str, Any]:
    """Execute code as a module of its own; the names that it leaves."""
    exec(compile(code, origin, "exec"), names)  # noqa: S102  what the documentation says to run
    return names


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.page}:{block.line}")
def test_a_block_runs(block: Piece, tmp_path: Path) -> None:
    names = run(GIVEN[block.page], "given", {"directory": tmp_path})
    run(textwrap.dedent(block.text), str(ROOT / block.page), names)


def test_what_is_given_is_used() -> None:
    assert sorted(GIVEN) == sorted({block.page for block in BLOCKS})


def test_a_wrong_block_fails() -> None:
    """Control."""
    with pytest.raises(ImportError):
        run("from plimsoll_recommender import nothing_of_this_name", "wrong", {})
