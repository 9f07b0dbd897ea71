"""The settings of mypy for `core`, and the user's settings for the user's code."""

from configparser import RawConfigParser

from core.dev.typecheck import merge

CORE = """
[mypy]
strict = True
plugins = pydantic.mypy

[mypy-app.*]
implicit_reexport = True

[mypy-tests.*,core.tests.*]
disallow_untyped_defs = False
"""


def test_options_of_the_user_change_the_users_code_only():
    core = RawConfigParser()
    core.read_string(CORE)
    user = {
        "python_version": "3.12",
        "plugins": ["one", "two"],
        "exclude": ["^a/", "^b/"],
        "warn_unreachable": True,
        "implicit_reexport": False,
        "overrides": [
            {"module": ["app.old.*", "boto3.*"], "ignore_missing_imports": True},
            {"module": "tests.*", "disable_error_code": ["attr-defined", "misc"]},
        ],
    }
    merged = merge(core, user)
    assert {name: dict(merged.items(name)) for name in merged.sections()} == {
        "mypy": {
            "strict": "True",
            "python_version": "3.12",
            "plugins": "pydantic.mypy, one, two",
            "exclude": "^a/|^b/",
        },
        "mypy-app.*": {"implicit_reexport": "False", "warn_unreachable": "True"},
        "mypy-tests.*": {
            "disallow_untyped_defs": "False",
            "implicit_reexport": "False",
            "warn_unreachable": "True",
            "disable_error_code": "attr-defined, misc",
        },
        "mypy-core.tests.*": {"disallow_untyped_defs": "False"},
        "mypy-app.old.*": {"ignore_missing_imports": "True"},
        "mypy-boto3.*": {"ignore_missing_imports": "True"},
    }
