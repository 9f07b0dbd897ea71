"""Accounts and their passwords. No function reveals to a client whether an address has one."""

from core.services.accounts.credentials import WrongCredentials, log_in
from core.services.accounts.passwords import (
    MAX_PASSWORD,
    MIN_PASSWORD,
    Password,
    hash_password,
)
from core.services.accounts.registration import (
    EmailTaken,
    make_admin,
    normalize_email,
    register,
)
from core.services.accounts.resets import (
    InvalidToken,
    get_reset_expiry,
    reset_password,
    start_password_reset,
)

__all__ = [
    "MAX_PASSWORD",
    "MIN_PASSWORD",
    "EmailTaken",
    "InvalidToken",
    "Password",
    "WrongCredentials",
    "get_reset_expiry",
    "hash_password",
    "log_in",
    "make_admin",
    "normalize_email",
    "register",
    "reset_password",
    "start_password_reset",
]
