"""Alerts: one process reports that something is wrong, and later that the alert has ended."""

from core.tasks.alerts.alerts import PAGES, Alert, Alerts
from core.tasks.alerts.conditions import make_conditions

__all__ = ["PAGES", "Alert", "Alerts", "make_conditions"]
