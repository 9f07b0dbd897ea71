"""Reports for administrators: request one, follow its progress, and get its link."""

from datetime import date
from typing import Self

from fastapi import APIRouter
from pydantic import BaseModel, model_validator

from app.tasks.reports import generate_sales_report
from app.tasks.worker import worker
from core.models import BlobModel
from core.services.audit import audit_log
from core.services.blob import blob_service
from core.services.limits import Limits, check_limits
from core.tasks import JobStatus, Progress
from core.web import ClientAddress, CurrentAdmin, find_own, view_job

router = APIRouter(prefix="/reports", tags=["reports"])

REQUESTING = Limits("20 per hour", "60 per hour")


class ReportRequest(BaseModel):
    start_date: date
    end_date: date

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.end_date < self.start_date:
            raise ValueError("end_date must not be before start_date")
        return self


class ReportQueued(BaseModel):
    job_id: str


class Report(BaseModel):
    status: JobStatus
    progress: Progress | None = None
    link: str | None = None


# A report adds up the orders of all users. To let each user request one, write CurrentUser.
@router.post(
    "",
    status_code=202,
    responses={401: {}, 403: {}, 429: {}},
)
async def request_report(
    form: ReportRequest,
    user: CurrentAdmin,
    client: ClientAddress,
) -> ReportQueued:
    """Create a sales report, and email its link."""
    await check_limits("request report", REQUESTING, str(user.id), client)
    days = [form.start_date.isoformat(), form.end_date.isoformat()]
    job = await generate_sales_report.enqueue(*days)
    await audit_log("report.requested", days=days, job_id=job.id)
    return ReportQueued(job_id=job.id)


@router.get("/{job_id}", responses={401: {}, 403: {}, 404: {}})
async def get_report(job_id: str, user: CurrentAdmin) -> Report:
    """Return a report's progress, and its link when it is completed."""
    job = await view_job(
        worker,
        job_id,
        str(user.id),
        task=generate_sales_report.name,
    )
    report = Report(status=job.status, progress=job.progress)
    if job.status is JobStatus.COMPLETED:
        blob = await find_own(BlobModel, job.result["blob_id"], user)
        report.link = blob_service.link(str(blob.id))
    return report
