"""The sales of each day and of all days, added up from orders."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from app.models.order import Order


@dataclass
class Sales:
    """The sales of one day, or of all days."""

    orders: int = 0
    units: int = 0
    revenue: Decimal = Decimal()

    def add(self, order: Order) -> None:
        """Add an order.

        Args:
            order: The order.
        """
        self.orders += 1
        self.units += order.quantity
        self.revenue += order.price * order.quantity


class SalesByDay:
    """The sales of some days. The size depends on the number of days, not of orders.

    Attributes:
        days: The sales of each day.
        total: The sales of all days.
    """

    def __init__(self) -> None:
        self.days: dict[date, Sales] = defaultdict(Sales)
        self.total = Sales()

    def add(self, order: Order) -> None:
        """Add an order to its day and to the total.

        Args:
            order: The order.
        """
        day = order.created_at.date()
        self.days[day].add(order)
        self.total.add(order)
