"""Settings that are missing or wrong are named; links begin with the public address."""

import pytest

from core.config import Settings, SettingsError, load_settings

GOOD = {"SECRET_KEY": "x" * 32, "MONGODB_URL": "mongodb://127.0.0.1:1"}
DEVELOPMENT_KEY = "development-only-secret-key-change-me"


@pytest.fixture(autouse=True)
def good_settings(monkeypatch) -> None:
    """Set only the settings in `GOOD`. The developer's own environment and `.env` do not count."""
    monkeypatch.setitem(Settings.model_config, "env_file", None)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)


def change(monkeypatch, settings: dict[str, str | None]) -> None:
    for name, value in settings.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            {"SECRET_KEY": None, "MONGODB_URL": None},
            "SECRET_KEY is missing; MONGODB_URL is missing",
        ),
        ({"MONGODB_URL": "localhost"}, "MONGODB_URL: "),
        ({"REDIS_URL": "http://a"}, "REDIS_URL: URL scheme should be 'redis', 'redis+sentinel', "),
        ({"REDIS_URL": "redis://a,b/0"}, "REDIS_URL: must look like redis://user:password@host:"),
        ({"REDIS_URL": "rediss://a/jobs"}, "REDIS_URL: must look like redis://"),
        ({"REDIS_URL": "redis+sentinel://a,b/"}, "REDIS_URL: must look like redis+sentinel://"),
        ({"REDIS_URL": "rediss+cluster://a,b/1"}, "REDIS_URL: must look like redis+cluster://"),
        (
            {"BROKER_URL": "http://a"},
            "BROKER_URL: URL scheme should be 'amqp', 'amqps', 'redis'",
        ),
        ({"BROKER_URL": "amqp://a/b/c"}, "BROKER_URL: must look like amqp://user:password@host:"),
        ({"BROKER_URL": "rediss://a/jobs"}, "BROKER_URL: must look like redis://"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY: Value should have at least 32 characters"),
        ({"PORT": "many"}, "PORT: "),
        ({"ALLOWED_HOSTS": "example.com"}, "ALLOWED_HOSTS is not valid JSON; a list is written as"),
        ({"ALLOWED_HOSTS": '["www.*.com"]'}, "ALLOWED_HOSTS"),
        ({"METRICS_TOKEN": "short"}, "METRICS_TOKEN: Value should have at least 32 characters"),
        ({"MAIL_FROM": "nobody"}, "MAIL_FROM: must be an address, such as Parcel Tracker <no-"),
        ({"MAIL_FROM": "größe@example.com"}, "MAIL_FROM: must be an address"),
        ({"MAIL_FROM": "a@example.com, b@example.com"}, "MAIL_FROM: must be an address"),
        ({"MAIL_FROM": "a@example.com <b@example.com>"}, "MAIL_FROM: must be an address"),
        ({"MAIL_FROM": "A\nBcc: a@example.com <b@example.com>"}, "MAIL_FROM: "),
        ({"SERVICE_NAME": "two\nlines"}, "SERVICE_NAME: "),
        (
            {"SCHEDULE_TIMEZONE": "Mars"},
            "SCHEDULE_TIMEZONE: 'Mars' is not a time zone such as Europe/Berlin",
        ),
        (
            {"ENVIRONMENT": "production", "SECRET_KEY": DEVELOPMENT_KEY},
            "SECRET_KEY is a development secret; production needs its own; SMTP_URL is missing",
        ),
        (
            {"ENVIRONMENT": "production", "SMTP_URL": "smtp://127.0.0.1:1"},
            "MAIL_FROM is missing, which production",
        ),
        ({"ENVIRONMENT": "production"}, "PUBLIC_URL is missing, which production needs"),
        (
            {"ALERT_WEBHOOK_URL": "https://example.com"},
            "ALERT_WEBHOOK_URL and ALERT_WEBHOOK_SECRET belong together: set both",
        ),
        (
            {"ALERT_WEBHOOK_SECRET": f"whsec_{'a' * 32}"},
            "ALERT_WEBHOOK_URL and ALERT_WEBHOOK_SECRET belong together: set both",
        ),
        ({"ALERT_WEBHOOK_URL": "example.com"}, "ALERT_WEBHOOK_URL: "),
        (
            {"ALERT_WEBHOOK_URL": "https://example.com", "ALERT_WEBHOOK_SECRET": "a" * 40},
            "ALERT_WEBHOOK_SECRET: must be whsec_ followed by at least 24 bytes as base64",
        ),
        ({"ALERT_WEBHOOK_SECRET": f"whsec_{'a' * 33}"}, "ALERT_WEBHOOK_SECRET: must be whsec_"),
        ({"ALERT_MAIL": "perhaps"}, "ALERT_MAIL: "),
    ],
)
def test_a_missing_or_wrong_setting_is_named(monkeypatch, settings, problem):
    change(monkeypatch, settings)
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert str(error.value).startswith("settings: ")
    assert problem in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "amqp://host",
        "amqp://user:password@host:5672//",
        "amqps://host/%2Fjobs",
        "redis://host:6379",
        "rediss://:password@host:6379/1?ssl_cert_reqs=none",
    ],
)
def test_a_broker_is_named_by_its_url(monkeypatch, url):
    change(monkeypatch, {"BROKER_URL": url})
    assert str(load_settings().broker_url) == url


@pytest.mark.parametrize(
    ("settings", "link"),
    [
        ({}, "http://127.0.0.1:8000/reset"),
        ({"PORT": "8123"}, "http://127.0.0.1:8123/reset"),
        ({"PUBLIC_URL": "https://example.com"}, "https://example.com/reset"),
        ({"PUBLIC_URL": "https://example.com/service"}, "https://example.com/service/reset"),
    ],
)
def test_a_link_begins_with_the_public_address(monkeypatch, settings, link):
    change(monkeypatch, settings)
    assert load_settings().link_to("reset") == link


@pytest.mark.parametrize(
    ("project", "variable", "name"),
    [
        ('[project]\nname = "parcels"', None, "parcels"),
        ('[project]\nname = "parcels"\n[tool.core]\nservice_name = "Größe"', None, "Größe"),
        ('[project]\nname = "parcels"\n[tool.core]\nservice_name = "Größe"', "Staging", "Staging"),
    ],
)
def test_the_service_has_a_name(monkeypatch, tmp_path, project, variable, name):
    (tmp_path / "pyproject.toml").write_text(project, encoding="utf-8")
    monkeypatch.setattr("core.config.settings.ROOT", tmp_path)
    if variable:
        monkeypatch.setenv("SERVICE_NAME", variable)
    assert load_settings().service_name == name


@pytest.mark.parametrize(("environment", "port"), [("test", 8000), ("development", 8117)])
def test_tests_do_not_read_the_env_file(monkeypatch, tmp_path, environment, port):
    file = tmp_path / ".env"
    file.write_text("PORT=8117\n")
    monkeypatch.setitem(Settings.model_config, "env_file", file)
    monkeypatch.setenv("ENVIRONMENT", environment)
    assert load_settings().port == port
