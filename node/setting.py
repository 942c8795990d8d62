"""What a setting is, and how a file of them is read and written.

A section is a frozen dataclass whose fields are made by `setting`; `read_section`
turns decoded TOML into one and `write_sections` turns the class into TOML with its
explanations. Which settings there are stands in `node.config`.
"""

import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_type_hints

from protocol.errors import TelexError

__all__ = [
    "Check",
    "ConfigProblem",
    "read_section",
    "set_values",
    "setting",
    "write_sections",
]


class ConfigProblem(TelexError):
    """The config file cannot be used; names the setting and what to write."""


Check = Callable[[Any], str | None]


def setting(
    default: Any = MISSING,
    *,
    help: str,
    unit: str = "",
    example: Any = None,
    check: Check | None = None,
) -> Any:
    """A field with what a person needs to know about it.

    Args:
        default: None: it may be left out.
        help: what it is and why one would change it, in sentences.
        unit: of a number.
        example: shown where there is no default.
        check: gives a sentence that completes "must ...", or None if all is well.
    """
    metadata = {"help": help, "unit": unit, "example": example, "check": check}
    if default is MISSING or not isinstance(default, list):
        return field(default=default, metadata=metadata)
    return field(default_factory=lambda: list(default), metadata=metadata)


def read_section(
    kind: type[Any], data: Mapping[str, Any], prefix: str, base: Path
) -> Any:
    """A section, and the sections in it, from decoded TOML.

    Args:
        kind: the section's dataclass.
        data: the decoded table.
        prefix: the dotted name of the section, with the dot; empty at the top.
        base: where relative paths start.

    Raises:
        ConfigProblem: a setting is unknown, missing or wrong; says which.
    """
    hints = get_type_hints(kind)
    known = {entry.name: entry for entry in fields(kind)}
    for key in data:
        if key not in known:
            raise ConfigProblem(
                f"There is no setting {prefix}{key}; config.example.toml shows those "
                "there are."
            )
    values: dict[str, Any] = {}
    for name, entry in known.items():
        hint = hints[name]
        if name in data:
            value = data[name]
            if isinstance(hint, type) and is_dataclass(hint):
                if not isinstance(value, dict):
                    raise ConfigProblem(f"{prefix}{name} must be a section: [{name}].")
                values[name] = read_section(hint, value, f"{prefix}{name}.", base)
                continue
            values[name] = _value(f"{prefix}{name}", entry, hint, value, base)
        elif entry.default is MISSING and entry.default_factory is MISSING:
            raise ConfigProblem(f"The setting {prefix}{name} is missing.")
        elif isinstance(entry.default, Path):
            values[name] = base / entry.default
    return kind(**values)


_WORDS: dict[Any, str] = {
    str: "a text in quotes",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path in quotes",
    list[str]: "a list of texts in quotes",
}


def _value(name: str, entry: Field[Any], hint: Any, value: Any, base: Path) -> Any:
    wanted = _wanted(hint)
    value, fits = _convert(wanted, value, base)
    if not fits:
        raise ConfigProblem(f"{name} must be {_WORDS[wanted]}.")
    check: Check | None = entry.metadata["check"]
    fault = check(value) if check else None
    if fault is not None:
        raise ConfigProblem(f"{name} must {fault.rstrip('.')}.")
    return value


def _wanted(hint: Any) -> Any:
    """The type without `| None`."""
    if isinstance(hint, UnionType):
        return next(part for part in get_args(hint) if part is not NoneType)
    return hint


def _convert(wanted: Any, value: Any, base: Path) -> tuple[Any, bool]:
    if wanted is Path:
        return (base / value, True) if isinstance(value, str) and value else (0, False)
    if wanted is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return (float(value), True) if number else (0, False)
    if wanted == list[str]:
        right = isinstance(value, list) and all(isinstance(v, str) for v in value)
        return value, right
    # bool is an int in Python, and `port = true` is a mistake.
    return value, type(value) is wanted


# --- writing -------------------------------------------------------------------


def write_sections(
    kind: type[Any], prefix: str, values: dict[str, Any], lines: list[str]
) -> None:
    """Append a section's lines to `lines`, with explanations.

    Args:
        kind: the section's dataclass.
        prefix: its dotted name with the dot; empty at the top.
        values: what to write instead of defaults, by dotted name; used ones are
            taken out.
        lines: where the lines go.
    """
    sections = []
    hints = get_type_hints(kind)
    for entry in fields(kind):
        if is_dataclass(hints[entry.name]):
            sections.append((entry.name, hints[entry.name]))
            continue
        lines.extend(_write(entry, prefix, values))
    for name, section in sections:
        lines.extend([f"[{name}]", *_comment(str(section.__doc__)), ""])
        write_sections(section, f"{name}.", values, lines)


def set_values(text: str, section: str, values: Mapping[str, Any]) -> str:
    """A file with other values in one section; every other line stays.

    A value that is spread over several lines is not understood: the caller compares
    what the result says.

    Args:
        text: TOML.
        section: its name; it is added at the end if it is not there.
        values: by name; a line that is commented out is used.
    """
    lines = text.splitlines()
    if f"[{section}]" not in lines:
        lines += ["", f"[{section}]"]
    start = lines.index(f"[{section}]") + 1
    for name, value in values.items():
        rest = range(start, len(lines))
        end = next((n for n in rest if lines[n].startswith("[")), len(lines))
        found = [
            (match[1] is not None, n)
            for n in range(start, end)
            if (match := re.match(rf"(#\s*)?{re.escape(name)}\s*=", lines[n]))
        ]
        line = f"{name} = {_toml(value)}"
        if found:
            lines[min(found)[1]] = line
        else:
            lines.insert(start, line)
    return "\n".join(lines) + "\n"


def _write(entry: Field[Any], prefix: str, values: dict[str, Any]) -> list[str]:
    about = entry.metadata
    help = about["help"] + (f" Unit: {about['unit']}." if about["unit"] else "")
    default = (
        entry.default_factory()
        if entry.default_factory is not MISSING
        else entry.default
    )
    key = f"{prefix}{entry.name}"
    if key in values:
        line = f"{entry.name} = {_toml(values.pop(key))}"
    elif default is MISSING:
        line = f"{entry.name} = {_toml(about['example'])}"
    elif default is None:
        line = f"# {entry.name} = {_toml(about['example'])}"
    else:
        line = f"{entry.name} = {_toml(default)}"
    return [*_comment(help), line, ""]


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, 86, initial_indent="# ", subsequent_indent="# ")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, str | Path):
        escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return str(value)
