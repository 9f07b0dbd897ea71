"""This service's own settings. Every process reads them when it starts."""

from pydantic import Field, NonNegativeInt, PositiveFloat

from core.config import BaseServiceSettings, read_settings


class AppSettings(BaseServiceSettings):
    """The variable of a field is the field's name in capitals, such as `CURRENCY`."""

    currency: str = Field("EUR", pattern="^[A-Z]{3}$")
    """The currency of prices and reports, as a code of ISO 4217."""

    storage_quota: NonNegativeInt = 1024**3
    """Bytes that the files of one user may take. Further uploads are refused."""

    upload_retention: PositiveFloat = 7 * 86400
    """Seconds for which an uploaded original is kept. Its smaller versions stay."""

    report_retention: PositiveFloat = 30 * 86400
    """Seconds for which a report is kept."""

    event_retention: PositiveFloat = 3 * 86400
    """Seconds for which an event is kept. Its deliveries can be replayed during this time."""

    webhook_failing_days: PositiveFloat = 5
    """A subscription is switched off if its receiver fails for this many days."""

    # A field without a default must be set: no process starts without PAYMENT_KEY.
    # payment_key: SecretStr  # from pydantic; it never shows its value


app_settings = read_settings(AppSettings)
"""Import this object where a setting is needed."""
