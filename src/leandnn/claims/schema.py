"""Plain data checked by pydantic, with our sentences for what is wrong."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from leandnn.errors import LeandnnError


class Strict(BaseModel):
    """A mapping without unknown keys, without text for a number or `true` for 1; its value never changes."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


T = TypeVar("T", bound=Strict)


def validated(kind: type[T], data: Any, where: str) -> T:
    """`data` as `kind`; `where` is the path of its key, for messages.

    LeandnnError naming the key's path, what was found and what was expected.
    """
    if not isinstance(data, dict):
        raise LeandnnError(f"{where} is a {type(data).__name__}, expected a mapping")
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    key = ".".join([where, *map(str, first["loc"])])
    fields = kind.model_fields
    match first["type"]:
        case "missing":
            needed = ", ".join(name for name, field in fields.items() if field.is_required())
            raise LeandnnError(f"{key} is missing, expected all of {needed}")
        case "extra_forbidden":
            raise LeandnnError(f"{key} is unknown, expected one of {', '.join(fields)}")
        case "value_error":
            expected = str(first["ctx"]["error"])
        case _:
            expected = f"it to be {first['msg'].removeprefix('Input should be ')}"
    raise LeandnnError(f"{key} is {first['input']!r:.60}, expected {expected}")
