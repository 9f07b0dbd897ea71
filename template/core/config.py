"""Settings: read once from the environment and `.env`, checked before anything starts."""

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, HttpUrl, SecretStr, UrlConstraints, ValidationError, model_validator
from pydantic_core import ErrorDetails, MultiHostUrl, Url
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.errors import UserError

__all__ = ["ROOT", "Settings", "SettingsError", "get_settings"]

ROOT = Path(__file__).absolute().parent.parent
"""The service's folder, which holds `app/`, `core/` and `.env`."""

DEVELOPMENT_MARK = "development-only"
"""Part of the secret in `.env.example`."""

MongoUrl = Annotated[
    MultiHostUrl, UrlConstraints(allowed_schemes=["mongodb", "mongodb+srv"], host_required=True)
]
RedisUrl = Annotated[Url, UrlConstraints(allowed_schemes=["redis", "rediss"], host_required=True)]
SmtpUrl = Annotated[Url, UrlConstraints(allowed_schemes=["smtp", "smtps"], host_required=True)]


class SettingsError(UserError):
    """A setting is missing or wrong; the message names it and says what to do."""


class Settings(BaseSettings):
    """What the environment decides. Each field is read from the variable of the same name in capitals."""

    model_config = SettingsConfigDict(
        env_file=ROOT / ".env", env_ignore_empty=True, extra="ignore", hide_input_in_errors=True
    )

    environment: Literal["development", "test", "production"] = "development"
    service: str = Field("app.main:service", pattern=r"^[\w.]+:\w+$")
    """The entry point that every process loads, as `module:name`."""

    secret_key: SecretStr = Field(min_length=32)
    """Signs job messages. `just setup` writes a fresh one into `.env`."""
    secret_key_previous: SecretStr | None = Field(None, min_length=32)
    """Still accepted after a change of `secret_key`, so that jobs in the queue are not refused."""

    mongodb_url: MongoUrl
    mongodb_database: str = Field("app", pattern=r"^[\w-]{1,63}$")

    redis_url: RedisUrl | None = None
    task_engine: str | None = None
    """`local`, or the engine that was rendered; that one where nothing is set."""
    queue_name: str = Field("default", pattern=r"^[\w{}.-]{1,100}$")

    task_max_retries: int = Field(3, ge=0)
    task_timeout: float = Field(300, gt=0)
    """Seconds that one attempt may take."""
    schedule_timezone: str = "UTC"
    """The time zone of schedules that name none, such as `Europe/Berlin`."""
    task_concurrency: int = Field(50, ge=1)
    """Jobs that one worker runs at once."""
    task_max_deliveries: int = Field(10, ge=1)
    """How often a job may end its worker process before it becomes a dead letter."""
    task_unknown_period: float = Field(600, ge=0)
    """Seconds that a job of an unknown task waits for a newer worker, as during a deploy."""
    task_backlog_limit: int = Field(1000, ge=1)
    """Jobs ready at once from which `/health/backlog` answers 503."""
    task_backlog_seconds: float = Field(600, gt=0)
    """Age of the oldest ready job from which it does, too."""
    task_history_ttl: float = Field(30 * 86400, gt=0)
    """Seconds for which failures and runs of schedules are kept."""
    task_stuck_limit: float = Field(60, gt=0)
    """Seconds after which a worker whose event loop is blocked, or that takes no jobs, ends itself in production, for
    whoever starts it anew."""
    worker_port: int | None = Field(None, ge=0, le=65535)
    """Where a worker serves `/health/live` and `/metrics`; nowhere where nothing is set."""
    task_record_ttl: float = Field(7 * 86400, gt=0)
    """Seconds for which the record of an ended job (its status and result) is kept."""
    task_grace_period: float = Field(30, ge=0)
    """Seconds that running jobs get to finish when the worker is told to stop."""

    smtp_url: SmtpUrl = Url("smtp://127.0.0.1:1025")
    """`smtp://user:password@host:587` (STARTTLS where offered) or `smtps://...:465`."""
    mail_from: str = "no-reply@localhost.localdomain"

    blob_url: str = ".dev/blobs"
    """Where files are: a folder, or `s3://bucket/folder`, `gs://...`, `az://...`, with what their own variables say."""

    max_body_size: int = Field(25 * 1024 * 1024, ge=0)
    """Bytes that the body of a request may have; a larger one is answered 413."""

    session_lifetime: float = Field(14 * 86400, gt=0)
    """Seconds after which a log-in ends."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    public_url: HttpUrl = Field(
        default_factory=lambda data: HttpUrl(f"http://127.0.0.1:{data.get('port', 8000)}")
    )
    """Where browsers find this service; links in mails begin with it."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["console", "json"] | None = None
    """`json` in production and `console` elsewhere where nothing is set."""

    @property
    def secret_keys(self) -> list[str]:
        """The secrets in force: the first one signs and encrypts, all of them are accepted."""
        return [
            key.get_secret_value() for key in (self.secret_key, self.secret_key_previous) if key
        ]

    def link_to(self, path: str) -> str:
        """Return the whole address of a page of this service, for browsers.

        Args:
            path: The page's path, without the slash at its beginning.
        """
        return f"{str(self.public_url).rstrip('/')}/{path}"

    @property
    def is_production(self) -> bool:
        """Whether `ENVIRONMENT` is `production`."""
        return self.environment == "production"

    @model_validator(mode="after")
    def _production_has_its_own(self) -> "Settings":
        """What is fine as it is in development must be chosen in production."""
        if not self.is_production:
            return self
        problems = [
            f"{name.upper()} is a development secret; production needs one of its own"
            for name in ("secret_key", "secret_key_previous")
            if (secret := getattr(self, name)) and DEVELOPMENT_MARK in secret.get_secret_value()
        ]
        problems += [
            f"{name.upper()} is missing, which production needs"
            for name in ("smtp_url", "mail_from", "public_url", "blob_url")
            if name not in self.model_fields_set
        ]
        if problems:
            raise ValueError("; ".join(problems))
        return self


def load_settings() -> Settings:
    """Read the settings afresh.

    Raises:
        SettingsError: One line that names every missing or wrong setting.
    """
    try:
        return Settings()
    except ValidationError as error:
        found = [
            each
            for each in error.errors(include_url=False)
            if each["type"] != "default_factory_not_called"
        ]
        problems = "; ".join(_describe(detail) for detail in found)
        hint = "set it in the environment or in .env, which `just setup` writes; see .env.example"
        raise SettingsError(f"settings: {problems} ({hint})") from None


def _describe(detail: ErrorDetails) -> str:
    name = str(detail["loc"][0]).upper() if detail["loc"] else ""
    if detail["type"] == "missing":
        return f"{name} is missing"
    message = (
        detail["msg"].removeprefix("Value error, ").replace("items after validation", "characters")
    )
    return f"{name}: {message}" if name else message


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read at the first call."""
    return load_settings()
