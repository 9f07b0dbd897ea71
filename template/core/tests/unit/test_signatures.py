"""Signed values: forged ones are refused, and each is valid for one purpose."""

import base64

import pytest
from itsdangerous import URLSafeSerializer

from core.config import get_settings
from core.keys import derive_keys
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


def test_tokens_are_signed_with_sha_256_and_older_ones_are_read(settings):
    keys = derive_keys(settings.secret_keys, "signed.digest")
    older = str(URLSafeSerializer(keys).dumps("user-1"))  # SHA-1 is the default
    token = sign("user-1", "digest")
    assert len(base64.urlsafe_b64decode(token.rpartition(".")[2] + "=")) == 32
    assert token != older
    assert read_signed(older, "digest") == "user-1"
    with pytest.raises(InvalidSignature):
        read_signed(older, "newsletter")


def test_a_former_key_is_accepted(settings, monkeypatch):
    token = sign("user-1", "digest")
    former = settings.secret_key.get_secret_value()

    use_keys(monkeypatch, SECRET_KEY="y" * 32, SECRET_KEY_PREVIOUS=former)
    assert read_signed(token, "digest") == "user-1"
    use_keys(monkeypatch, SECRET_KEY_PREVIOUS="z" * 32)
    with pytest.raises(InvalidSignature):
        read_signed(token, "digest")
