"""Before any load: does the endpoint answer, and does it serve the model?"""

from __future__ import annotations

from typing import Final

import aiohttp

from plimsoll_cli.errors import CommandError
from plimsoll_cli.load.events import error_message

_TIMEOUT_SECONDS: Final = 10.0
_UNREACHABLE: Final = 3
_BAD_INPUT: Final = 2


async def served_model(url: str, model: str | None, api_key: str | None) -> str:
    """The model to ask for: the one given, or the only one served.

    Raises:
        CommandError: exit code 3 when nothing usable answers, 2 when the model is not served or the URL is wrong.
    """
    address = url.rstrip("/").removesuffix("/v1") + "/v1/models"
    served = await _models(address, api_key)
    if model is None:
        if len(served) == 1:
            return served[0]
        raise CommandError(f"--model is needed: {url} serves {', '.join(served) or 'no model'}", _BAD_INPUT)
    if model not in served:
        raise CommandError(f"--model {model!r} is not served at {url}: it serves {', '.join(served)}", _BAD_INPUT)
    return model


async def _models(address: str, api_key: str | None) -> list[str]:
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    try:
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session, session.get(address) as answer:
            if answer.status in (401, 403):
                raise CommandError(f"{address} wants a key (HTTP {answer.status}): give --api-key", _BAD_INPUT)
            if answer.status != 200:
                reason = error_message((await answer.text())[:200])
                raise CommandError(f"{address} answered HTTP {answer.status}: {reason}", _UNREACHABLE)
            document = await answer.json(content_type=None)
        return [str(entry["id"]) for entry in document["data"]]
    except aiohttp.InvalidURL:
        raise CommandError(f"--url: {address!r} is not a URL; write it as http://host:port", _BAD_INPUT) from None
    except TimeoutError:
        raise CommandError(f"{address} did not answer within {_TIMEOUT_SECONDS:g} s", _UNREACHABLE) from None
    except aiohttp.ClientError as error:
        raise CommandError(f"nothing answers at {address}: {error}", _UNREACHABLE) from None
    except (ValueError, KeyError, TypeError):
        raise CommandError(
            f"{address} did not answer with a list of models: is it an OpenAI API?", _UNREACHABLE
        ) from None
