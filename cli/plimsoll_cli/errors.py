"""The one exception a subcommand raises to end with a line a person can act on."""

from __future__ import annotations


class CommandError(Exception):
    """A failure the user can act on: one line that names the field, the numbers and the fix.

    Args:
        message: what is wrong and what to do.
        exit_code: 1 the command ran and the answer is no; 2 the input is wrong; 3 it cannot be done: something
            needed is missing or out of reach, or nothing fits.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
