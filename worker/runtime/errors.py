"""The package's exceptions; the tree is drawn in the package's docstring."""

from __future__ import annotations


class RuntimeFault(Exception):
    """Base of everything that the runtime raises on purpose."""


class ConfigError(RuntimeFault):
    """The OCI configuration asks for something wrong or unsupported; the message names the field."""


class StepError(RuntimeFault):
    """A step of start, exec or delete failed; the message names the step and the path."""


class StartError(StepError):
    """The user's program could not be started.

    ``exit_code`` is what Docker would exit with: 127 when the program is not there, 126 when it
    cannot be executed, 125 when the runtime itself failed.
    """

    def __init__(self, message: str, exit_code: int = 125) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class NoSuchContainer(RuntimeFault):
    """No container with this id is known here."""


class WrongState(RuntimeFault):
    """The operation does not fit the container's state."""


class ShimLost(RuntimeFault):
    """The container's shim does not answer on its socket."""
