"""Accounts and their passwords. No function reveals to a client whether an address has one."""

from core.services.accounts.credentials import check_password, log_in
from core.services.accounts.email_tokens import (
    InvalidToken,
    create_email_token,
    delete_email_tokens,
    find_email_token,
)
from core.services.accounts.passwords import (
    MAX_PASSWORD,
    MIN_PASSWORD,
    Password,
    WrongCredentials,
    hash_password,
    set_password,
)
from core.services.accounts.registration import (
    EmailTaken,
    confirm_sign_up,
    make_admin,
    make_viewer,
    normalize_email,
    register,
    remove_role,
    start_sign_up,
)
from core.services.accounts.resets import reset_password, start_password_reset

__all__ = [
    "MAX_PASSWORD",
    "MIN_PASSWORD",
    "EmailTaken",
    "InvalidToken",
    "Password",
    "WrongCredentials",
    "check_password",
    "confirm_sign_up",
    "create_email_token",
    "delete_email_tokens",
    "find_email_token",
    "hash_password",
    "log_in",
    "make_admin",
    "make_viewer",
    "normalize_email",
    "register",
    "remove_role",
    "reset_password",
    "set_password",
    "start_password_reset",
    "start_sign_up",
]
