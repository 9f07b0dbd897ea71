"""Records that another version of the service has written."""

from core.tasks import JobRecord, JobStatus, Progress


def test_fields_of_a_newer_version_are_ignored():
    stored = {
        "state": "running",
        "attempt": 2,
        "colour": "red",
        "progress": {"done": 1, "total": 2, "message": "half", "unit": "MB"},
    }
    record = JobRecord.from_fields(stored)
    assert (record.status, record.attempt) == (JobStatus.RUNNING, 2)
    assert record.progress == Progress(1, 2, "half")


def test_a_status_of_a_newer_version_is_unknown():
    assert JobRecord.from_fields({"state": "paused"}).status is JobStatus.UNKNOWN
    assert JobRecord.from_fields({}).status is JobStatus.UNKNOWN
