"""This service's own settings. Every process reads them when it starts."""

from pydantic import Field

from core.config import BaseServiceSettings, read_settings


class AppSettings(BaseServiceSettings):
    """The variable of a field is the field's name in capitals, such as `CURRENCY`."""

    currency: str = Field("EUR", pattern="^[A-Z]{3}$")
    """The currency of prices and reports, as a code of ISO 4217."""

    webhook_failing_days: float = Field(5, gt=0)
    """A subscription whose receiver fails for so many days is switched off."""

    # A field without a default must be set: no process starts without PAYMENT_KEY.
    # payment_key: SecretStr  # from pydantic; it never shows its value


app_settings = read_settings(AppSettings)
"""Import this object where a setting is needed."""
