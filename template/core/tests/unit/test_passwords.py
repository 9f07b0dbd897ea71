"""New passwords: their length, and the list of leaked ones."""

import pytest
from pydantic import TypeAdapter, ValidationError

from core.services.accounts import MIN_PASSWORD, Password, passwords

PASSWORD: TypeAdapter[str] = TypeAdapter(Password)


@pytest.mark.parametrize("password", ["password", "12345678", "Password123", "QWERTYUIOP"])
def test_a_leaked_password_is_refused(password):
    with pytest.raises(ValidationError, match="leaked"):
        PASSWORD.validate_python(password)


@pytest.mark.parametrize("password", ["correct horse", "a long enough password", "Ünïcödé 8"])
def test_other_passwords_are_accepted(password):
    assert PASSWORD.validate_python(password) == password


def test_the_list_is_long_and_holds_only_what_could_be_entered():
    """OWASP ASVS 5.0, 6.2.4: at least the 3000 most common ones that match the rules."""
    listed = passwords._breached_passwords()
    assert len(listed) >= 3000
    assert all(len(each) >= MIN_PASSWORD and each == each.lower() for each in listed)
