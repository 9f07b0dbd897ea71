"""The service: what every process loads."""

from app.models import DOCUMENTS
from app.routes import reports, signup
from app.tasks.worker import worker
from core.service import Service

service = Service(documents=DOCUMENTS, routers=[reports.router, signup.router], worker=worker)
