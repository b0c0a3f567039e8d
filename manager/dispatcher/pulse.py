"""A clock of the time in which this process really ran.

A manager that was paused (SIGSTOP, a machine that was suspended, an event loop held up) has not heard its workers for
as long, and that says nothing about them: their words wait in the sockets. So silence is measured by a clock that
counts at most a little for each look at it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

LOOK_SECONDS = 0.25


class Pulse:
    """Args: clock: seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._looked = clock, clock()
        #: Seconds in which this process ran since it began.
        self.seconds = 0.0

    def beat(self) -> float:
        """Look at the clock, as is done every LOOK_SECONDS; returns `seconds`."""
        now = self._clock()
        self.seconds += min(now - self._looked, 2 * LOOK_SECONDS)
        self._looked = now
        return self.seconds
