"""The outcome of a job's run. The engine applies it to its queue."""

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


@dataclass(frozen=True, slots=True)
class Lost:
    """Another worker has taken the job over. The job and its message belong to that worker."""


Outcome = Success | Retry | Dead | Lost
