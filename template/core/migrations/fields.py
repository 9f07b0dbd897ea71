"""A check that no migration deletes a field by mistake."""

from beanie import Document
from beanie.migrations.controllers.base import BaseMigrationController
from pymongo.asynchronous.client_session import AsyncClientSession

from core.migrations.files import MigrationError

FIELDS = [
    {"$project": {"field": {"$objectToArray": "$$ROOT"}}},
    {"$unwind": "$field"},
    {"$group": {"_id": "$field.k"}},
    {"$sort": {"_id": 1}},
]
"""The names of all fields that the documents of a collection have."""


async def check_fields(step: BaseMigrationController, session: AsyncClientSession) -> None:
    """Refuse a step of `iterative_migration` that would delete fields that it does not name.

    Beanie replaces each document by the fields that the step's classes declare.

    Args:
        step: The step. Its classes are initialised.
        session: The session of the migration.

    Raises:
        MigrationError: A document has a field that the step's first class does not declare.
    """
    before: type[Document] | None = getattr(step, "input_document_model", None)
    if before is None or all(_keeps_all(model) for model in step.models):
        return
    found = await before.find_all(session=session).aggregate(FIELDS, session=session).to_list()
    lost = [field["_id"] for field in found if field["_id"] not in _declared(before)]
    if lost:
        name, collection = before.__name__, before.get_collection_name()
        problem = f"documents in {collection} have {', '.join(lost)}, which {name} does not declare"
        hint = "Declare all fields in both classes: iterative_migration deletes the others."
        raise MigrationError(f"{problem}. {hint}")


def _keeps_all(model: type[Document]) -> bool:
    return model.model_config.get("extra") == "allow"


def _declared(model: type[Document]) -> set[str]:
    fields = {field.alias or name for name, field in model.model_fields.items()}
    # The name of the class, in collections with documents of several classes.
    return fields | (
        {model.get_settings().class_id} if getattr(model, "_class_id", None) else set()
    )
