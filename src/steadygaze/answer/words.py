"""How numbers and names are put into words, so that the terminal and the report never differ.

Rounding never flatters: a share just below one is not shown as 100 %, and a safe range is rounded towards
zero.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, Context

SHOWN_DIGITS = 4


def written(name: str) -> str:
    """A name of the file system as text: bytes that are no UTF-8 are written as \\xe9 and the like."""
    if name.isascii():  # as mostly
        return name
    bytes_shown = (f"\\x{ord(c) - 0xDC00:02x}" if "\udc80" <= c <= "\udcff" else c for c in name)
    return "".join(bytes_shown).encode("utf-8", "backslashreplace").decode()


def percent(share: float | None) -> str:
    """A share in [0, 1] as a percentage; 0 % and 100 % are said only of exactly 0 and 1."""
    if share is None:
        return "not known"
    if share == 0 or share == 1:
        return f"{share:.0%}".replace("%", " %")
    if share < 0.0005:
        return "< 0.1 %"
    if share > 0.9995:
        return "> 99.9 %"
    return f"{100 * share:.1f} %"


def number(value: float | None, digits: int = SHOWN_DIGITS) -> str:
    """A number with at most ``digits`` significant digits."""
    return "not known" if value is None else f"{value + 0.0:.{digits}g}"


def size(count: float) -> str:
    """So many bytes, in the unit that leaves at least one of them."""
    for unit in ("bytes", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def toward_zero(value: float) -> str:
    """A bound of something proven: rounded so that it never claims more than was proven."""
    shortened = Context(prec=SHOWN_DIGITS, rounding=ROUND_DOWN).create_decimal(repr(float(value)))
    return given(float(shortened))


def interval(low: float, high: float) -> str:
    """A proven range around zero, both ends rounded towards zero."""
    return f"{toward_zero(low)} to {toward_zero(high)}"


def apart(value: float, threshold: float) -> str:
    """``value`` with as many digits as it takes to tell it from ``threshold``."""
    for digits in range(SHOWN_DIGITS, 13):
        if number(value, digits) != number(threshold, digits):
            return number(value, digits)
    return number(value, 17)


def listing(parts: list[str]) -> str:
    """``["a", "b", "c"]`` as ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def quantity(value: object) -> str:
    """A constant of a perturbation as it would be written in its notation."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return given(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(quantity(part) for part in value)}]"
    return str(value)


def given(value: float) -> str:
    """A number of the user's own, with the digits it was given."""
    return number(value, 12)
