"""The settings of every service."""

import os
import re
import tomllib
from collections.abc import Iterator
from email.headerregistry import Address
from email.utils import parseaddr
from functools import lru_cache
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from email_validator import validate_email
from pydantic import (
    AfterValidator,
    Field,
    HttpUrl,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    UrlConstraints,
    model_validator,
)
from pydantic_core import MultiHostUrl, Url
from pydantic_settings import SettingsConfigDict

from core.config.base import BaseServiceSettings, read_settings
from core.config.env_file import ROOT

DEVELOPMENT_MARK = "development-only"
"""A part of the secret in `.env.example`."""

PRODUCTION_SETTINGS = ("smtp_url", "mail_from", "public_url", "blob_url")
"""The settings whose defaults fit development only."""

MongoUrl = Annotated[
    MultiHostUrl,
    UrlConstraints(
        allowed_schemes=["mongodb", "mongodb+srv"],
        host_required=True,
    ),
]
REDIS_FORMS = {
    "redis": (r"/?\d*", "redis://user:password@host:6379/0"),
    "redis+sentinel": (r"/[\w.-]+(/\d+)?", "redis+sentinel://host:26379,host:26379/name/0"),
    "redis+cluster": (r"/?0?", "redis+cluster://host:6379,host:6379"),
}
"""The path that a URL of each scheme may have, and an example. TLS has the same forms."""


def _check_redis(url: MultiHostUrl) -> MultiHostUrl:
    path, example = REDIS_FORMS[url.scheme.replace("rediss", "redis")]
    is_one = "+" not in url.scheme
    if not re.fullmatch(path, url.path or "") or (is_one and len(url.hosts()) > 1):
        raise ValueError(f"must look like {example}")
    return url


RedisUrl = Annotated[
    MultiHostUrl,
    UrlConstraints(
        allowed_schemes=[*REDIS_FORMS, *(each.replace("redis", "rediss") for each in REDIS_FORMS)],
        host_required=True,
    ),
    AfterValidator(_check_redis),
]
AMQP_FORM = (r"/?|//|/[^/]+", "amqp://user:password@host:5672/vhost")
"""As in `REDIS_FORMS`. RabbitMQ's default vhost is `/`, so the path may be `//`."""


def _check_broker(url: Url) -> Url:
    path, example = REDIS_FORMS["redis"] if url.scheme.startswith("redis") else AMQP_FORM
    if not re.fullmatch(path, url.path or ""):
        raise ValueError(f"must look like {example}")
    return url


BrokerUrl = Annotated[
    Url,
    UrlConstraints(
        allowed_schemes=["amqp", "amqps", "redis", "rediss"],
        host_required=True,
    ),
    AfterValidator(_check_broker),
]
SmtpUrl = Annotated[
    Url,
    UrlConstraints(
        allowed_schemes=["smtp", "smtps"],
        host_required=True,
    ),
]


ONE_LINE = r"^[^\x00-\x1f\x7f]+$"


def read_sender(text: str) -> Address:
    """Return the sender of mails. Its domain is in the form that every mail server accepts.

    Args:
        text: `Name <address>`, or an address.

    Raises:
        ValueError: The text has another form, or the address is not valid.
    """
    name, address = parseaddr(text)
    # `parseaddr` takes the first of several addresses.
    if not text.rstrip("> ").endswith(address):
        raise ValueError(f"more than one address: {text}")
    valid = validate_email(address, check_deliverability=False, allow_smtputf8=False)
    return Address(name, addr_spec=valid.ascii_email or "")


def _check_sender(value: str) -> str:
    try:
        read_sender(value)
    except ValueError:
        example = "Parcel Tracker <no-reply@example.com>"
        raise ValueError(f"must be an address, such as {example}") from None
    return value


MailSender = Annotated[str, Field(pattern=ONE_LINE), AfterValidator(_check_sender)]
Secret = Annotated[SecretStr, Field(min_length=32)]
Port = Annotated[int, Field(ge=0, le=65535)]
HostPattern = Annotated[str, Field(pattern=r"^(\*|(\*\.)?[\w.-]+)$", max_length=253)]


def read_pyproject() -> dict[str, Any]:
    """Return the content of the service's `pyproject.toml`."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _project_title() -> str:
    content = read_pyproject()
    table = content.get("tool", {}).get("core", {})
    return str(table.get("service_name") or content["project"]["name"])


def _local_url(fields: dict[str, Any]) -> HttpUrl:
    port = fields["port"]
    return HttpUrl(f"http://127.0.0.1:{port}")


def _check_webhook_secret(secret: SecretStr) -> SecretStr:
    base64 = r"whsec_([A-Za-z0-9+/]{4}){8,}([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
    if not re.fullmatch(base64, secret.get_secret_value()):
        raise ValueError("must be whsec_ followed by at least 24 bytes as base64")
    return secret


def _check_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone such as Europe/Berlin") from None
    return name


class Settings(BaseServiceSettings):
    """The settings of a process. A field's variable is the field's name in capitals."""

    # A pattern contains no limit of the length: pydantic takes 10 MB for `\w{1,100}`.

    environment: Literal["development", "test", "production"] = "development"
    service: str = Field("app.main:service", pattern=r"^[\w.]+:\w+$")
    """The entry point that every process loads, as `module:name`."""

    service_name: str = Field(default_factory=_project_title, pattern=ONE_LINE)
    """The name that people read in mails and pages. Defaults to the one in `pyproject.toml`."""

    secret_key: Secret
    """Signs job messages and links, and encrypts sensitive arguments."""
    secret_key_previous: Secret | None = None
    """A second key that is accepted: the former `secret_key`, or the next one before a change."""

    mongodb_url: MongoUrl
    mongodb_database: str = Field("app", pattern=r"^[\w-]+$", max_length=63)

    redis_url: RedisUrl | None = None
    """The server of the job queue: `redis://`, `redis+sentinel://` or `redis+cluster://`.

    With `rediss` in place of `redis`, the connection uses TLS. `core/docs/queue-server.md` shows
    the forms. A cluster keeps the queue available, but does not make it faster: all keys of a queue
    are on one node.
    """
    broker_url: BrokerUrl | None = None
    """The server that carries the jobs of the engine `celery`: RabbitMQ (`amqp://`, `amqps://`), or
    Redis or Valkey (`redis://`, `rediss://`). Defaults to `redis_url`. Other engines ignore it."""
    task_engine: str | None = None
    """An engine in `core/tasks/engines/`. Defaults to the one the service was created with."""
    queue_name: str = Field("default", pattern=r"^[\w{}.-]+$", max_length=100)

    task_max_retries: NonNegativeInt = 3
    """Retries after the first attempt, unless the task sets its own number."""
    task_timeout: PositiveFloat = 300
    """Seconds that one attempt may take, unless the task sets its own limit."""
    schedule_timezone: Annotated[str, AfterValidator(_check_zone)] = "UTC"
    """The time zone of schedules that name no time zone, such as `Europe/Berlin`."""
    task_concurrency: PositiveInt = 50
    """Jobs that one worker runs at once."""
    task_max_deliveries: PositiveInt = 10
    """Worker processes that a job may end before it becomes a dead letter."""
    task_unknown_period: NonNegativeFloat = 600
    """Seconds that a job waits for a worker that knows its task and its key, as during a deploy."""
    task_max_arguments: Annotated[int, Field(gt=0, le=4 * 1024**2)] = 1024**2
    """Largest size of a job's arguments, in bytes of JSON. At 4 MiB a dead letter still fits into a
    document of MongoDB."""
    task_backlog_limit: PositiveInt = 1000
    """Pending jobs at which `/health/backlog` answers 503."""
    task_backlog_seconds: PositiveFloat = 600
    """Age in seconds of the oldest pending job at which `/health/backlog` answers 503."""
    task_history_ttl: PositiveFloat = 30 * 86400
    """Seconds for which failed attempts and runs of schedules are kept."""
    task_completed_ttl: NonNegativeFloat = 86400
    """Seconds for which other completed runs are kept; 0 keeps no such runs. If a task runs very
    often, each worker keeps only some of its runs."""
    task_stuck_limit: PositiveFloat = 60
    """Seconds after which a stuck worker ends itself in production, so that it is restarted.

    A worker is stuck if its event loop is blocked or if it takes no jobs.
    """
    worker_port: Port | None = None
    """The port on which a worker serves health checks and `/metrics`. None: it serves nothing."""
    task_record_ttl: PositiveFloat = 86400
    """Seconds for which the record of an ended job (status and result) is kept.

    For this time `job_id`, `idempotency_key` and the replay of a dead letter create no second job.
    A message that was due longer ago and has no record becomes a dead letter.
    """
    task_max_result: Annotated[int, Field(gt=0, le=8 * 1024**2)] = 64 * 1024
    """Largest result of a job, in bytes of JSON. A job with a larger result fails for good. At
    8 MiB a record still fits into a document of MongoDB."""
    task_grace_period: NonNegativeFloat = 30
    """Seconds that running jobs may take to finish when a worker stops."""

    smtp_url: SmtpUrl = Url("smtp://127.0.0.1:1025")
    """`smtp://user:password@host:587` (STARTTLS if offered) or `smtps://...:465`."""
    mail_from: MailSender = "no-reply@localhost.localdomain"
    """The sender of every mail: `Name <address>`, or an address. The name defaults to
    `service_name`."""

    alert_mail: bool | None = None
    """Whether administrators get an email for each alert. Defaults to true in production only."""
    alert_webhook_url: HttpUrl | None = None
    """The address that gets a signed message for each alert, as the Standard Webhooks specify."""
    alert_webhook_secret: Annotated[SecretStr, AfterValidator(_check_webhook_secret)] | None = None
    """The key that signs these messages. `new_webhook_secret()` makes one."""

    blob_url: str = ".dev/blobs"
    """The store for files: a folder, or `s3://bucket/folder`, `gs://...` or `az://...`.

    Object stores read their credentials from their own variables.
    """

    max_body_size: NonNegativeInt = 1024 * 1024
    """Maximum size of a request's body in bytes. Larger requests are answered 413. A route's own
    `max_body_size` replaces it."""
    client_timeout: PositiveFloat = 30
    """Seconds after which a connection is closed if its client sends no request or reads nothing.
    A client that sends a request may fall this far behind 1,000 bytes a second."""
    max_event_streams: PositiveInt = 500
    """Event streams that a web process keeps open at once. Further ones are answered 429."""
    max_event_streams_per_user: PositiveInt = 20
    """How many of these streams one user may have."""

    outbound_ports: frozenset[Port] = frozenset({80, 443, 8080, 8443})
    """The ports that URLs of users may name, such as `[80, 443]`. Development allows all."""

    session_lifetime: PositiveFloat = 14 * 86400
    """Seconds after which a session expires."""
    session_idle_timeout: PositiveFloat = 3 * 86400
    """Seconds without a request after which a session expires, to within a tenth."""

    host: str = "127.0.0.1"
    port: Port = 8000
    public_url: HttpUrl = Field(default_factory=_local_url)
    """The address of this service for browsers. Links in mails begin with it."""
    allowed_hosts: tuple[HostPattern, ...] = ()
    """Hosts that requests may name in production, besides the one in `public_url`. `*.example.com`
    allows all hosts of a domain. Health checks may name any host."""
    forwarded_allow_ips: str = "127.0.0.1,::1"
    """Addresses or networks of your proxies, comma-separated. Only these may name the client."""
    api_docs: bool | None = None
    """Opens `/docs`, `/redoc` and `/openapi.json`. Defaults to true, except in production."""
    console_enabled: bool = True
    """Opens the console at `/console`, for administrators and viewers."""
    console_port: Annotated[int | None, Field(ge=1, le=65535)] = None
    """A second port of the web process. It then answers only `/console` and the health checks, and
    `PORT` answers everything else. Defaults to no second port: the console is on `PORT`."""
    metrics_token: Secret | None = None
    """The bearer token for `/metrics` of the web process. In production, `/metrics` needs it."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["console", "json"] | None = None
    """`console` (short lines for people) or `json` (every field).

    Defaults to `json` in production and to `console` otherwise.
    """

    @property
    def secret_keys(self) -> list[str]:
        """The valid secrets. The first one signs and encrypts; all of them are accepted."""
        keys = [self.secret_key, self.secret_key_previous]
        return [key.get_secret_value() for key in keys if key]

    def link_to(self, path: str) -> str:
        """Return the address of one of this service's pages, for browsers.

        Args:
            path: The page's path, without the slash at its start.
        """
        base = str(self.public_url).rstrip("/")
        return f"{base}/{path}"

    @property
    def is_production(self) -> bool:
        """Whether `ENVIRONMENT` is `production`."""
        return self.environment == "production"

    @model_validator(mode="after")
    def _check_combinations(self) -> "Settings":
        if self.console_port == self.port:
            raise ValueError("CONSOLE_PORT and PORT are the same: choose another CONSOLE_PORT")
        if bool(self.alert_webhook_url) != bool(self.alert_webhook_secret):
            raise ValueError("ALERT_WEBHOOK_URL and ALERT_WEBHOOK_SECRET belong together: set both")
        if self.is_production:
            problems = list(self._find_development_values())
            if problems:
                raise ValueError("; ".join(problems))
        return self

    def _find_development_values(self) -> Iterator[str]:
        for name in ("secret_key", "secret_key_previous"):
            secret = getattr(self, name)
            if secret and DEVELOPMENT_MARK in secret.get_secret_value():
                variable = name.upper()
                yield f"{variable} is a development secret; production needs its own"
        for name in PRODUCTION_SETTINGS:
            if name not in self.model_fields_set:
                yield f"{name.upper()} is missing, which production needs"


class _SettingsOfTests(Settings):
    """Settings without `.env`, because a developer's settings must not change results of tests."""

    model_config = SettingsConfigDict(env_file=None)


def load_settings() -> Settings:
    """Read the settings again.

    Raises:
        SettingsError: A setting is missing or wrong. One line names all such settings.
    """
    is_test = os.environ.get("ENVIRONMENT") == "test"
    return read_settings(_SettingsOfTests if is_test else Settings)


def find_address(url: str) -> str:
    """Return the hosts and ports of a URL, without its user and password.

    Args:
        url: The URL of one server, or of several.
    """
    return urlsplit(url).netloc.rpartition("@")[2]


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Return the settings of this process, which the first call reads.

    Raises:
        SettingsError: A setting is missing or wrong.
    """
    return load_settings()
