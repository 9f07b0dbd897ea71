"""Your documents. List each one here, because the database opens only the listed ones."""

from beanie import Document

from app.models.image import ImageModel
from app.models.order import Order
from app.models.unsubscription import Unsubscription
from app.models.webhook import Event, Subscription

DOCUMENTS: list[type[Document]] = [Event, ImageModel, Order, Subscription, Unsubscription]
