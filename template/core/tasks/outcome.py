"""The outcome of a job's run, which the engine applies with the means of its queue."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Success:
    """The job has ended; its record says how."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The job will run again.

    Attributes:
        after: Seconds to wait.
    """

    after: float


@dataclass(frozen=True, slots=True)
class Dead:
    """The job will not run again; its record and its dead letter say why.

    Attributes:
        error: The error, in one line.
    """

    error: str


Outcome = Success | Retry | Dead
