from app.models import DOCUMENTS
from app.pasted import fastapi_basic, fastapi_errors, fastapi_many, fastapi_patterns, signup
from app.tasks import example, notifications
from app.tasks.worker import worker
from core.entry import Service

service = Service(
    documents=DOCUMENTS,
    routers=[
        fastapi_basic.app,
        fastapi_errors.app,
        fastapi_many.app,
        fastapi_patterns.app,
        signup.router,
        notifications.app,
        example.app,
    ],
    worker=worker,
)
