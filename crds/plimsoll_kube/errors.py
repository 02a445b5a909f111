"""What the API server may answer instead of an object."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Final

NAMESPACE_TERMINATING: Final = "NamespaceTerminating"
"""Reason of a `Forbidden` create in a namespace that is going (the cause in the answer's details)."""


class ApiError(Exception):
    """The API server refused a request, or did not answer it.

    Attributes:
        status: HTTP status; 0 when there was no answer.
        reason: the machine-readable reason of the answer's Status object, such as `AlreadyExists`.
        message: what a person reads.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{message} ({status} {reason})" if status else message)
        self.status = status
        self.reason = reason
        self.message = message


class NotFound(ApiError):  # noqa: N818 (HTTP\'s own word)
    """404: the object, or the whole resource, does not exist."""


class Conflict(ApiError):  # noqa: N818 (HTTP\'s own word)
    """409: the object changed in between, exists already, or another manager owns the field."""


class Forbidden(ApiError):  # noqa: N818 (HTTP\'s own word)
    """401 or 403: these credentials may not do this."""


class Invalid(ApiError):  # noqa: N818 (HTTP\'s own word)
    """400 or 422: the API server will not accept this object, however often it is sent."""


class Gone(ApiError):  # noqa: N818 (HTTP\'s own word)
    """410: the resource version is too old; list again."""


class ApiUnavailable(ApiError):  # noqa: N818 (HTTP\'s own word)
    """No answer, 429 or 5xx, until the deadline for trying again had passed."""


_BY_STATUS: dict[int, type[ApiError]] = {
    HTTPStatus.BAD_REQUEST: Invalid,
    HTTPStatus.UNAUTHORIZED: Forbidden,
    HTTPStatus.FORBIDDEN: Forbidden,
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.CONFLICT: Conflict,
    HTTPStatus.GONE: Gone,
    HTTPStatus.UNPROCESSABLE_ENTITY: Invalid,
    HTTPStatus.TOO_MANY_REQUESTS: ApiUnavailable,
}


def error_of(status: int, body: bytes, request: str) -> ApiError:
    """The exception for an answer that is not a success.

    Args:
        status: HTTP status.
        body: the answer; a Status object, or whatever a proxy in between said.
        request: verb and path, for an answer that says nothing itself.
    """
    reason, message = HTTPStatus(status).phrase if status in HTTPStatus.__members__.values() else "", ""
    try:
        answer = json.loads(body)
        causes = [cause.get("reason") for cause in (answer.get("details") or {}).get("causes") or []]
        reason, message = answer.get("reason") or reason, answer.get("message") or ""
        if NAMESPACE_TERMINATING in causes:
            reason = NAMESPACE_TERMINATING
    except (ValueError, AttributeError):
        message = body[:200].decode(errors="replace").strip()
    kind = _BY_STATUS.get(status, ApiUnavailable if status >= HTTPStatus.INTERNAL_SERVER_ERROR else ApiError)
    return kind(status, reason, message or f"{request} was answered with HTTP {status}")
