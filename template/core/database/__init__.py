"""MongoDB, through Beanie on PyMongo's async API."""

from core.database.connection import CONNECTION_ERRORS as CONNECTION_ERRORS
from core.database.connection import Database as Database
from core.database.connection import DatabaseUnavailable
from core.database.connection import open_client as open_client
from core.database.connection import open_database as open_database
from core.database.connection import summarize_error as summarize_error
from core.database.query import make_query as make_query
from core.database.transactions import (
    TransactionsUnsupported,
    current_session,
    with_transaction,
)
from core.database.transactions import current_transaction as current_transaction

__all__ = [
    "DatabaseUnavailable",
    "TransactionsUnsupported",
    "current_session",
    "with_transaction",
]
