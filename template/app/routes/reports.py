"""Reports: ask for one, watch it being made, and get its link."""

from datetime import date

from fastapi import APIRouter
from pydantic import BaseModel, model_validator

from app.tasks.reports import generate_sales_report
from app.tasks.worker import worker
from core.services.audit import audit_log
from core.services.blob import blob_service
from core.tasks import JobStatus, Progress
from core.web import CurrentUser, view_job

router = APIRouter(prefix="/reports", tags=["reports"])


class ReportRequest(BaseModel):
    start_date: date
    end_date: date

    @model_validator(mode="after")
    def _in_order(self) -> "ReportRequest":
        if self.end_date < self.start_date:
            raise ValueError("end_date lies before start_date")
        return self


class ReportQueued(BaseModel):
    job_id: str


class Report(BaseModel):
    status: JobStatus
    progress: Progress | None = None
    link: str | None = None


@router.post("", status_code=202, responses={401: {}})
async def request_report(wanted: ReportRequest, user: CurrentUser) -> ReportQueued:
    """Have a report made; its link is mailed, too. Ask for a `CurrentAdmin` where sales are not for every user."""
    days = wanted.start_date.isoformat(), wanted.end_date.isoformat()
    job = await generate_sales_report.enqueue(*days)
    await audit_log("report.requested", days=days, job_id=job.id)
    return ReportQueued(job_id=job.id)


@router.get("/{job_id}", responses={401: {}, 404: {}})
async def get_report(job_id: str, user: CurrentUser) -> Report:
    """How far it is, and its link once it is done."""
    job = await view_job(worker, job_id, str(user.id), task=generate_sales_report.name)
    link = blob_service.link(job.result["blob_id"]) if job.status is JobStatus.COMPLETED else None
    return Report(status=job.status, progress=job.progress, link=link)
