"""How one run of a job ended. The engine applies it with the means of its queue."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Success:
    """It is done; its result is in the record."""


@dataclass(frozen=True, slots=True)
class Retry:
    """It failed and is to run again.

    Attributes:
        after: Seconds to wait before it does.
    """

    after: float


@dataclass(frozen=True, slots=True)
class Dead:
    """It is not to run again; why is in the record.

    Attributes:
        error: One line.
    """

    error: str


Outcome = Success | Retry | Dead
