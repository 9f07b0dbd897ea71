"""Your documents. List each one here: the database knows those only."""

from beanie import Document

DOCUMENTS: list[type[Document]] = []
