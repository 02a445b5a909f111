"""What is refused over HTTP, with the codes and words of vLLM 0.32."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any


class ApiError(Exception):
    """A request that is answered with an error.

    Args:
        status: HTTP status code.
        message: what is wrong.
        kind: `error.type` of the body.
        param: the field that is wrong.
    """

    def __init__(self, status: int, message: str, kind: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param

    def body(self) -> dict[str, Any]:
        """The response's JSON body."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.status}}


def malformed(message: str, param: str) -> ApiError:
    """A body that is not what the schema says (pydantic's refusal in vLLM: type `Bad Request`)."""
    return ApiError(HTTPStatus.BAD_REQUEST, message, HTTPStatus.BAD_REQUEST.phrase, param)


def schema_error(kind: str, location: str, message: str, value: object) -> ApiError:
    """One violation of the schema, worded as vLLM words pydantic's."""
    shown = f"<{type(value).__name__} of {len(value)} items>" if isinstance(value, (dict, list)) else str(value)
    detail = {"type": kind, "loc": location, "msg": message, "input": shown}
    return malformed(f"1 validation error:\n  {detail}", location)


def invalid(message: str, param: str, value: object = None) -> ApiError:
    """A field whose value cannot be used (type `BadRequestError`)."""
    shown = f"(parameter={param})" if value is None else f"(parameter={param}, value={value})"
    return ApiError(HTTPStatus.BAD_REQUEST, f"{message} {shown}", "BadRequestError", param)


def unusable(message: str) -> ApiError:
    """A request that cannot be served as a whole: vLLM names no field."""
    return ApiError(HTTPStatus.BAD_REQUEST, message, "BadRequestError")


def busy() -> ApiError:
    """More requests than --max-num-queued-reqs."""
    message = (
        "The engine is currently busy and cannot accept new requests. "
        "Please try again later or on a different instance."
    )
    return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, message, HTTPStatus.SERVICE_UNAVAILABLE.phrase)


def unknown_model(model: str, served: tuple[str, ...]) -> ApiError:
    """A model that is not served here."""
    message = f"The model `{model}` does not exist. Valid aliases: {', '.join(served)}."
    return ApiError(HTTPStatus.NOT_FOUND, message, "NotFoundError", "model")


def internal(message: str) -> ApiError:
    """The engine cannot answer."""
    return ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, message, "InternalServerError")


def shutting_down() -> ApiError:
    """What a draining vLLM 0.32 says to new requests: its renderer's thread pool is closed before the drain begins."""
    return internal("cannot schedule new futures after shutdown")
