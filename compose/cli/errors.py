"""What ends a command.

::

    CliError        the command failed; one message, an exit status
    └── UsageError  the command line asks for what cannot be (status 2)
    Exit            no message: the exit status of a child, or of a canceled command
"""

from __future__ import annotations


class CliError(Exception):
    """A command failed. `message` is all that the user sees; `status` is the exit status."""

    status = 1

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        if status is not None:
            self.status = status


class UsageError(CliError):
    """The flags or arguments make no sense together."""

    status = 2


class Exit(Exception):
    """End with this status and say nothing more."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status
