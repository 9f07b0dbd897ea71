"""Parcels and their carriers."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Self

import pymongo
from beanie import BackLink, Document, Indexed, Insert, Link, PydanticObjectId, before_event
from pydantic import (
    BaseModel,
    ConfigDict,
    EmailStr,
    Field,
    computed_field,
    field_serializer,
    field_validator,
    model_validator,
)
from pymongo import IndexModel


class Status(StrEnum):
    OPEN = "open"
    DELIVERED = "delivered"


class Address(BaseModel):
    model_config = ConfigDict(str_strip_whitespace=True)

    street: str = Field(..., min_length=1, max_length=100)
    city: str
    tags: list[str] = []
    extra: dict[str, Any] = {}

    @field_validator("city")
    @classmethod
    def check_city(cls, v: str) -> str:
        if not v.istitle():
            raise ValueError("the city’s name starts with a capital letter – for example “Köln”")
        return v


class Carrier(Document):
    name: Annotated[str, Indexed(unique=True)]
    parcels: list[BackLink["Parcel"]] = Field(json_schema_extra={"original_field": "carrier"})

    class Settings:
        name = "carriers"


class Parcel(Document):
    number: Annotated[str, Indexed(unique=True)]
    owner: PydanticObjectId
    email: EmailStr | None = None
    status: Status = Status.OPEN
    weight: float = Field(gt=0)
    address: Address
    carrier: Link[Carrier] | None = None
    history: list[dict[str, Any]] = Field(default_factory=list)
    created_at: datetime = Field(default_factory=lambda: datetime.now(UTC))

    class Settings:
        name = "parcels"
        indexes = [
            "status",
            [("owner", pymongo.ASCENDING), ("created_at", pymongo.DESCENDING)],
            IndexModel([("email", pymongo.ASCENDING)], name="by_email", sparse=True),
        ]
        use_state_management = True

    @before_event(Insert)
    def normalize(self) -> None:
        self.number = self.number.upper()

    @model_validator(mode="after")
    def check_delivered(self) -> Self:
        if self.status == Status.DELIVERED and self.carrier is None:
            raise ValueError("a delivered parcel has a carrier")
        return self

    @field_serializer("created_at")
    def serialize_created_at(self, value: datetime) -> str:
        return value.isoformat()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def label(self) -> str:
        return f"{self.number} ({self.status})"


class Token(BaseModel):
    access_token: str
    token_type: str = "bearer"
