"""The address of the broker, in the form that Celery takes. This module imports no Celery."""

import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from core.config import Settings, SettingsError, find_address


@dataclass(frozen=True, slots=True)
class Address:
    """A broker.

    Attributes:
        url: Its URL. Several sentinels are separated by semicolons.
        place: The broker, for people.
        is_rabbitmq: Whether it is RabbitMQ. Otherwise it is Redis or Valkey.
        options: Transport options that its URL cannot contain.
        tls: TLS options that its URL cannot contain; None without them.
    """

    url: str
    place: str
    is_rabbitmq: bool
    options: dict[str, Any] = field(default_factory=dict)
    tls: dict[str, Any] | None = None


def find_broker(settings: Settings) -> Address:
    """Return the broker that the settings name.

    Args:
        settings: The service's settings.

    Raises:
        SettingsError: No broker is named, or Celery cannot use it.
    """
    setting = "BROKER_URL" if settings.broker_url else "REDIS_URL"
    found = settings.broker_url or settings.redis_url
    if found is None:
        problem = "BROKER_URL and REDIS_URL are missing: the job queue needs one of them"
        raise SettingsError(f"settings: {problem} (or set TASK_ENGINE=local)")
    url = str(found)
    place = f"the broker at {find_address(url)} ({setting})"
    scheme, _, kind = urlsplit(url).scheme.partition("+")
    if kind == "cluster":
        raise SettingsError(f"settings: {setting}: Celery cannot use a cluster; name one server")
    if kind == "sentinel":
        return _name_sentinels(url, place, is_tls=scheme == "rediss")
    if scheme == "amqps":
        return _secure_rabbitmq(url, place, setting)
    if scheme == "rediss":
        url = _check_certificate(url)
    return Address(url, place, is_rabbitmq=scheme.startswith("amqp"))


def _secure_rabbitmq(url: str, place: str, setting: str) -> Address:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    checks = {"required": ssl.CERT_REQUIRED, "none": ssl.CERT_NONE}
    tls: dict[str, Any] = {}
    check = query.pop("ssl_cert_reqs", "required")
    if check == "required":
        tls["server_hostname"] = None  # kombu then checks the host of the URL
    for name in ("ca_certs", "certfile", "keyfile"):
        if value := query.pop(f"ssl_{name}", None):
            tls[name] = value
    if query or check not in checks:
        known = "ssl_ca_certs, ssl_certfile, ssl_keyfile, ssl_cert_reqs=required or none"
        raise SettingsError(f"settings: {setting} has a wrong option. Allowed: {known}")
    tls["cert_reqs"] = checks[check]
    return Address(parts._replace(query="").geturl(), place, is_rabbitmq=True, tls=tls)


def _check_certificate(url: str) -> str:
    """Let the URL ask for a check of the server's certificate, unless it sets this option."""
    parts = urlsplit(url)
    query = {"ssl_cert_reqs": "required", **dict(parse_qsl(parts.query))}
    return parts._replace(query=urlencode(query)).geturl()


def _name_sentinels(url: str, place: str, is_tls: bool) -> Address:
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    primary, _, database = parts.path.strip("/").partition("/")
    query = dict(parse_qsl(parts.query))
    sentinel = {name: query.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    if is_tls:
        query = {"ssl_cert_reqs": "required", **query}
    rest = f"/{database or 0}" + (f"?{urlencode(query)}" if query else "")
    urls = [f"sentinel://{user}{at}{host}{rest}" for host in hosts.split(",")]
    options = {"master_name": primary, "sentinel_kwargs": sentinel}
    return Address(";".join(urls), place, is_rabbitmq=False, options=options)
