"""Your documents. List each one here, because the database opens only the listed ones."""

from beanie import Document

from app.models.image import ImageModel
from app.models.order import Order
from app.models.unsubscription import Unsubscription
from app.models.webhook import Subscription

DOCUMENTS: list[type[Document]] = [ImageModel, Order, Subscription, Unsubscription]
