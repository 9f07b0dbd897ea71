"""Signed values: forged ones are refused, and each is valid for one purpose."""

import pytest

from core.config import get_settings
from core.services.signatures import InvalidSignature, read_signed, sign


def use_keys(monkeypatch, **keys: str) -> None:
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()


def test_a_signed_value_is_read(settings):
    assert read_signed(sign("user-1", "digest"), "digest") == "user-1"


@pytest.mark.parametrize("token", ["", "user-1", "InVzZXItMSI.x", "\ud800", "é" * 3])
def test_a_forged_token_is_refused(settings, token):
    with pytest.raises(InvalidSignature):
        read_signed(token, "digest")


@pytest.mark.parametrize("purpose", ["newsletter", "digest.", "", "blob"])
def test_a_token_is_valid_for_its_purpose_only(settings, purpose):
    with pytest.raises(InvalidSignature):
        read_signed(sign("user-1", "digest"), purpose)


def test_a_former_key_is_accepted(settings, monkeypatch):
    token = sign("user-1", "digest")
    former = settings.secret_key.get_secret_value()

    use_keys(monkeypatch, SECRET_KEY="y" * 32, SECRET_KEY_PREVIOUS=former)
    assert read_signed(token, "digest") == "user-1"
    use_keys(monkeypatch, SECRET_KEY_PREVIOUS="z" * 32)
    with pytest.raises(InvalidSignature):
        read_signed(token, "digest")
