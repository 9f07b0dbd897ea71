"""Settings of a service's own: one line names what is wrong, and no value is repeated."""

import pytest
from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.config import BaseServiceSettings, SettingsError, read_settings

VALUES = {
    "SECRET_KEY": "0123456789abcdefghijklmnopqrstuvwxyz",
    "SHOP_PRICE": "nineteen",
    "SHOP_HOSTS": "one.example,two.example",
    "SHOP_MAIL__PORT": "twentyfive",
}


class Mail(BaseModel):
    host: str
    port: int


class Missing(BaseServiceSettings):
    payment_key: SecretStr
    currency: str = "EUR"


class Prefixed(BaseServiceSettings, env_prefix="SHOP_"):
    key: str
    price: int
    token: str = Field(alias="PAYMENT_TOKEN")


class Unreadable(BaseServiceSettings, env_prefix="SHOP_"):
    hosts: list[str]


class Nested(BaseServiceSettings, env_prefix="SHOP_", env_nested_delimiter="__"):
    mail: Mail


@pytest.fixture(autouse=True)
def variables(monkeypatch) -> None:
    for name, value in VALUES.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("settings_class", "problems"),
    [
        (Missing, ["PAYMENT_KEY is missing (set it in"]),
        (Prefixed, ["SHOP_KEY is missing; ", "SHOP_PRICE: ", "PAYMENT_TOKEN is missing"]),
        (Unreadable, ['SHOP_HOSTS is not valid JSON; a list is written as ["a", "b"]']),
        (Nested, ["SHOP_MAIL__HOST is missing", "SHOP_MAIL__PORT: "]),
    ],
)
def test_what_is_wrong_is_named_without_values(settings_class, problems):
    with pytest.raises(SettingsError) as error:
        read_settings(settings_class)
    line = str(error.value)
    assert line.startswith("settings: ")
    assert "\n" not in line
    for problem in problems:
        assert problem in line
    for value in VALUES.values():
        assert value not in line


def test_a_misspelled_variable_is_named_beside_the_missing_one(monkeypatch):
    monkeypatch.setenv("PAYMENTKEY", "secret")
    with pytest.raises(SettingsError, match="PAYMENT_KEY is missing, but PAYMENTKEY is set"):
        read_settings(Missing)


def test_a_list_is_read(monkeypatch):
    monkeypatch.setenv("SHOP_HOSTS", '["one.example", "two.example"]')
    assert read_settings(Unreadable).hosts == ["one.example", "two.example"]


def test_the_errors_of_pydantic_do_not_repeat_the_variables_in_a_file(tmp_path):
    """The file is in the form that the documentation of pydantic shows."""
    secret = VALUES["SECRET_KEY"]
    (tmp_path / ".env").write_text(f"SECRET_KEY={secret}\n")

    class Obvious(BaseSettings):
        model_config = SettingsConfigDict(env_file=tmp_path / ".env")

        payment_key: SecretStr

    with pytest.raises(ValueError, match="payment_key") as error:
        Obvious()
    assert secret[:5] not in str(error.value)
    with pytest.raises(SettingsError) as explained:
        read_settings(Obvious)
    assert "PAYMENT_KEY is missing" in str(explained.value)
    assert "derive it from core.config.BaseServiceSettings" in str(explained.value)
    assert secret[:5] not in str(explained.value)
