"""Model facts from the Hugging Face hub: configuration and tensor shapes, never the weights."""

from __future__ import annotations

from plimsoll_cli.errors import CommandError
from plimsoll_recommender import ModelFacts, UnknownModelError


def load_model(name: str, *, token_env: str | None = None) -> ModelFacts:
    """Facts of --model: the catalogue, a directory or a config.json first, then the hub for `hf://org/name`.

    Args:
        name: catalogue name, `hf://org/name[@revision]`, directory or config.json.
        token_env: name of the environment variable that holds the hub's token; None uses the client's own settings.

    Raises:
        CommandError: when it is not known, or the hub does not give it (exit 2).
        RecommenderError: when its config.json is not usable.
    """
    try:
        return ModelFacts.load(name)
    except UnknownModelError as error:
        raise CommandError(f"{error} (the hub is not reachable)", 2) from error
