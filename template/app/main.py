"""The service: its documents, routers and worker. Every process imports it."""

from app.models import DOCUMENTS
from app.routes import accounts, digest, orders, profile, reports, uploads, webhooks
from app.settings import app_settings
from app.tasks.worker import worker
from core.entry import Service

service = Service(
    documents=DOCUMENTS,
    routers=[
        accounts.router,
        digest.router,
        orders.router,
        profile.router,
        reports.router,
        uploads.router,
        webhooks.router,
    ],
    worker=worker,
    settings=app_settings,
)
