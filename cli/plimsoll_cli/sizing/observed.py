"""What a running engine reported, as corrections of the next answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from plimsoll_cli.errors import CommandError
from plimsoll_cli.sizing.wording import WRONG_INPUT, one_line
from plimsoll_recommender import Accelerator, EngineConfig, ModelFacts, RecommenderError

if TYPE_CHECKING:
    from plimsoll_recommender.observation.corrections import Corrections


def corrections_of(
    file: Path | None, facts: ModelFacts, devices: Sequence[Accelerator], config: EngineConfig | None
) -> Corrections | None:
    """Corrections from --observed; None when it is not given.

    Args:
        file: corrections as `Corrections.dumps` writes them, or an engine's start-up log or /metrics text.
        facts: the model that was observed.
        devices: the accelerators in question; a log does not name its GPU, so it needs exactly one.
        config: settings of the observed engine, when they are known; what it states of itself comes first.

    Raises:
        CommandError: a file that is neither.
    """
    if file is None:
        return None
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"--observed {file} cannot be read as text: {one_line(str(error))}", WRONG_INPUT) from error
    from plimsoll_recommender.observation.corrections import Corrections

    try:
        if text.lstrip().startswith("{"):
            return Corrections.loads(text)
        if len(devices) != 1:
            raise CommandError(
                f"--observed {file} does not name its GPU: give one --gpu with it, or a file of corrections",
                WRONG_INPUT,
            )
        # The readers of logs and metrics load only when there is something to read.
        from plimsoll_recommender.observation.observe import observe

        seen = observe(text, facts=facts, gpu=devices[0], config=config)
    except RecommenderError as error:
        raise CommandError(f"--observed {file}: {one_line(str(error))}", WRONG_INPUT) from error
    return Corrections().with_observation(seen)
