"""Settings as frozen dataclasses, read from YAML; an unknown key is an error, not a surprise."""

import dataclasses
import difflib
import types
import typing
from pathlib import Path

import yaml

from crcore.errors import InputError

__all__ = ["from_mapping", "read_yaml"]


def read_yaml(path):
    """Read a YAML file that holds a mapping.

    Raises
    ------
    InputError
        When it is missing or is no such file.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file: check the path") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds {type(content).__name__}, not 'key: value' lines")
    return content


def from_mapping(kind, mapping, where="configuration"):
    """Make a dataclass from a mapping, nested dataclasses included.

    Parameters
    ----------
    kind : type
        A dataclass.
    mapping : dict
        Its settings; what is left out keeps its default.
    where : str, optional
        What error messages call the place.

    Raises
    ------
    InputError
        For an unknown key (the nearest known one is named) or a value of another type.
    """
    if not isinstance(mapping, dict):
        raise InputError(f"{where}: found {mapping!r}: expected 'key: value' lines")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    settings = {}
    for key, value in mapping.items():
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(fields)}"
            raise InputError(f"{where}: unknown key {key!r}: {hint}")
        settings[key] = _coerce(hints[key], value, f"{where}: {key}")
    try:
        return kind(**settings)
    except TypeError as error:
        raise InputError(f"{where}: {error}") from None


def _coerce(hint, value, where):
    if dataclasses.is_dataclass(hint):
        return from_mapping(hint, value, where)
    origin = typing.get_origin(hint)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(value)
    if origin in (types.UnionType, typing.Union):
        allowed = typing.get_args(hint)
    else:
        allowed = (origin or hint,)
    if float in allowed and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if float in allowed and isinstance(value, str):  # YAML reads 1e-3 as text
        try:
            return float(value)
        except ValueError:
            pass
    if (isinstance(value, bool) and bool not in allowed) or not isinstance(value, tuple(allowed)):
        names = " or ".join(getattr(a, "__name__", str(a)) for a in allowed)
        raise InputError(f"{where} = {value!r}: expected {names}")
    return value
