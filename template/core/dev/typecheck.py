"""Checks the types with `core/mypy.ini`, and your code also with `[tool.mypy]` of `pyproject.toml`.

Run it as `python -m core.dev.typecheck`, with options of mypy.
"""

import subprocess
import sys
from collections.abc import Iterable
from configparser import RawConfigParser
from typing import Any, TypeAlias

from mypy.options import PER_MODULE_OPTIONS

from core.config import ROOT, read_pyproject

CORE_CONFIG = ROOT / "core" / "mypy.ini"
MERGED_CONFIG = ROOT / ".dev" / "mypy.ini"
USER_CODE = ("mypy-app.*", "mypy-tests.*")
NO_STRICT = (
    "error: [tool.mypy] in pyproject.toml sets `strict`, which mypy accepts only for all modules."
    " Set single options instead, such as `disallow_untyped_defs = false`."
)

Options: TypeAlias = dict[str, Any]


def merge(core: RawConfigParser, user: Options) -> RawConfigParser:
    """Return the settings of `core/mypy.ini`, with the user's settings added.

    An option that mypy accepts for single modules is set for `app` and `tests`, not for `core`.

    Args:
        core: The content of `core/mypy.ini`.
        user: The table `[tool.mypy]`.
    """
    merged = RawConfigParser()
    for name in core.sections():
        _add(merged, _split(name), core.items(name))
    for option, value in user.items():
        if option == "plugins":
            plugins = [core.get("mypy", "plugins"), _write(option, value)]
            merged.set("mypy", "plugins", ", ".join(plugins))
        elif option != "overrides":
            sections = USER_CODE if option in PER_MODULE_OPTIONS else ["mypy"]
            _add(merged, sections, [(option, value)])
    for override in user.get("overrides", []):
        modules = override["module"]
        names = [modules] if isinstance(modules, str) else modules
        options = [(option, value) for option, value in override.items() if option != "module"]
        _add(merged, [f"mypy-{name}" for name in names], options)
    return merged


def _split(section: str) -> list[str]:
    """Return one section for each module, because mypy reads only a module's last section."""
    first, *rest = section.split(",")
    return [first, *(f"mypy-{name}" for name in rest)]


def _add(
    config: RawConfigParser,
    sections: Iterable[str],
    options: Iterable[tuple[str, Any]],
) -> None:
    for section in sections:
        if not config.has_section(section):
            config.add_section(section)
        for option, value in options:
            config.set(section, option, _write(option, value))


def _write(option: str, value: object) -> str:
    """Return a value of a TOML file as mypy reads it from an INI file."""
    if not isinstance(value, list):
        return str(value)
    return ("|" if option == "exclude" else ", ").join(map(str, value))


def main(arguments: list[str]) -> int:
    """Check the types.

    Args:
        arguments: Options of mypy.

    Returns:
        The exit status of mypy.
    """
    user = read_pyproject().get("tool", {}).get("mypy", {})
    if "strict" in user:
        sys.exit(NO_STRICT)
    config = CORE_CONFIG
    if user:
        core = RawConfigParser()
        core.read(CORE_CONFIG, encoding="utf-8")
        config = MERGED_CONFIG
        config.parent.mkdir(exist_ok=True)
        with config.open("w", encoding="utf-8") as file:
            merge(core, user).write(file)
    command = [sys.executable, "-m", "mypy", "--config-file", str(config), *arguments]
    return subprocess.run([*command, "app", "core", "tests"], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
