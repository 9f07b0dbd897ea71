"""Your documents. List each one here: the database knows those only."""

from beanie import Document

from app.models.order import Order

DOCUMENTS: list[type[Document]] = [Order]
