"""The files that `script/api` writes, made of the public names."""

from collections.abc import Iterable
from typing import Any

import griffe
from surface import Name, Surface, SurfaceError

LINE_LENGTH = 88
HEADINGS = {"parameters": "Args", "returns": "Returns", "yields": "Yields", "raises": "Raises"}

PAGE_HEAD = """\
# The public API of core/

<!-- Written by script/api of the template. -->

Your code may use these names. [CHANGELOG.md](CHANGELOG.md) names each one that an
update removes or changes.

Everything else in `core/` may change in any update. `just lint` reports its use as TID251. To use
it on purpose, end the line with `# noqa: TID251`.
"""

LINT_HEAD = """\
# Written by script/api of the template: what `just lint` reports outside of core/.

[lint.flake8-tidy-imports.banned-api]
"""
LINT_MESSAGE = "this name is not public and may change in any update; see core/API.md"


def make_page(surface: Surface) -> str:
    """Return `core/API.md`.

    Args:
        surface: The public names.
    """
    parts = [PAGE_HEAD]
    for module in surface.modules:
        anchor = module.replace(".", "")
        parts.append(f"- [`{module}`](#{anchor}): {surface.describe_module(module)}")
    for module, names in surface.modules.items():
        parts.append(f"\n## `{module}`\n\n{surface.describe_module(module)}")
        parts += [_describe_name(name) for name in names]
    return "\n".join(parts) + "\n"


def make_lint_list(surface: Surface) -> str:
    """Return `core/not-public.toml`, which `core/ruff.toml` extends.

    Args:
        surface: The public names.
    """
    lines = [f'"{path}".msg = "{LINT_MESSAGE}"\n' for path in surface.not_public()]
    return LINT_HEAD + "".join(lines)


def _describe_name(name: Name) -> str:
    _, _, short = name.path.rpartition(".")
    if name.same_as:
        module, _, same = name.same_as.rpartition(".")
        return f"\n### `{short}`\n\nThe same as `{same}` of `{module}`."
    text = f"\n### `{short}`\n\n{_describe(name)}"
    fields = [member for member in name.members if member.object.is_attribute]
    methods = [member for member in name.members if not member.object.is_attribute]
    described = _find_attributes(name.object)
    if fields:
        text += "\n\n" + "\n".join(_describe_field(each, described) for each in fields)
    for method in methods:
        _, _, method_name = method.path.rpartition(".")
        text += f"\n\n#### `{short}.{method_name}`\n\n{_describe(method)}"
    return text


def _describe(name: Name) -> str:
    code = "\n".join(_wrap(each) for each in name.signatures)
    parts = [f"```python\n{code}\n```"]
    if docstring := name.object.docstring:
        parts += [_describe_section(each) for each in docstring.parsed]
    return "\n\n".join(filter(None, parts))


def _describe_section(section: griffe.DocstringSection) -> str:
    kind = section.kind.value
    if kind == "text":
        return str(section.value)
    if kind == "attributes":
        return ""  # with the fields
    if kind not in HEADINGS:
        raise SurfaceError(f"a docstring has a section that API.md cannot show: {kind}")
    return f"{HEADINGS[kind]}:\n\n" + "\n".join(_describe_items(kind, section.value))


def _describe_items(kind: str, items: Iterable[Any]) -> Iterable[str]:
    for item in items:
        text = " ".join(item.description.split())
        if kind in ("returns", "yields"):
            yield f"- {text}"
        else:
            subject = item.annotation if kind == "raises" else item.name
            yield f"- `{subject}`: {text}"


def _find_attributes(found: griffe.Object) -> dict[str, str]:
    """The descriptions of a class's fields in the section `Attributes` of its docstring."""
    sections = found.docstring.parsed if found.docstring else []
    found_in = [each.value for each in sections if each.kind.value == "attributes"]
    return {item.name: " ".join(item.description.split()) for items in found_in for item in items}


def _describe_field(name: Name, described: dict[str, str]) -> str:
    _, _, short = name.path.rpartition(".")
    docstring = name.object.docstring
    text = " ".join(docstring.value.split()) if docstring else described.get(short, "")
    (signature,) = name.signatures
    return f"- `{signature}`: {text}" if text else f"- `{signature}`"


def _wrap(signature: str) -> str:
    """Give each parameter a line if a signature is long."""
    if len(signature) <= LINE_LENGTH or "(" not in signature:
        return signature
    start = signature.index("(") + 1
    end = signature.rindex(")")
    lines = [f"    {parameter},\n" for parameter in _split(signature[start:end])]
    return f"{signature[:start]}\n{''.join(lines)}{signature[end:]}"


def _split(parameters: str) -> list[str]:
    """Split at the commas that are not inside brackets."""
    parts = [""]
    depth = 0
    for letter in parameters:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]
