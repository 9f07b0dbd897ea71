"""The web process: the application, and the dependencies of its routes."""

from core.web.auth import (
    PAGE_HEADERS,
    ClientAddress,
    CurrentAdmin,
    CurrentUser,
    DeviceCookie,
    current_user,
    find_own,
    remember_device,
    sign_in,
    sign_out,
)
from core.web.factory import create_app
from core.web.jobs import JobView, view_job

__all__ = [
    "PAGE_HEADERS",
    "ClientAddress",
    "CurrentAdmin",
    "CurrentUser",
    "DeviceCookie",
    "JobView",
    "create_app",
    "current_user",
    "find_own",
    "remember_device",
    "sign_in",
    "sign_out",
    "view_job",
]
