"""How numbers are written: with a unit, and with as many digits as mean something."""

from __future__ import annotations

from math import floor, log10

THIN = "\u202f"  # a narrow space that does not break, between a number and its unit
PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G"}


def percent(share: float, decimals: int = 1) -> str:
    """Return a share in percent.

    >>> percent(0.97222).replace(THIN, " ")
    '97.2 %'
    """
    return f"{100 * share:.{decimals}f}{THIN}%"


def count(value: float) -> str:
    """Return a number of things, digits in groups of three; a mean keeps three digits.

    >>> count(11520), count(1234.5), count(0.1234)
    ('11,520', '1,234', '0.123')
    """
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:,.3g}"


def number(value: float, digits: int = 4) -> str:
    """Return a plain number with a few significant digits.

    >>> number(0.05), number(1234567.0), number(8)
    ('0.05', '1,234,567', '8')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def with_prefix(value: float, unit: str, digits: int = 3) -> str:
    """Return a quantity with an SI prefix.

    >>> with_prefix(2.36e-8, "J").replace(THIN, " ")
    '23.6 nJ'
    """
    if value == 0:
        return f"0{THIN}{unit}"
    rounded = float(f"{value:.{digits - 1}e}")  # first: 999.6 is 1.00 of the next prefix
    power = max(min(PREFIXES), min(max(PREFIXES), 3 * floor(log10(abs(rounded)) / 3)))
    scaled = rounded / 10.0**power
    decimals = max(0, digits - 1 - floor(log10(abs(scaled)) + 1e-9))
    return f"{scaled:,.{decimals}f}{THIN}{PREFIXES[power]}{unit}"


def duration(seconds: float) -> str:
    """Return a time.

    >>> duration(7.34).replace(THIN, " "), duration(185).replace(THIN, " ")
    ('7.3 s', '3 min 5 s')
    """
    if seconds < 60:
        return f"{seconds:.1f}{THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}{THIN}min {rest}{THIN}s"


def plural(amount: float, noun: str) -> str:
    """Return an amount and its noun.

    >>> plural(1, "step"), plural(8, "step")
    ('1 step', '8 steps')
    """
    return f"{count(amount)} {noun}" + ("" if amount == 1 else "s")


def sentence(text: str) -> str:
    """Return text that begins with a capital and ends with a full stop.

    >>> sentence("simulated on an SNN")
    'Simulated on an SNN.'
    """
    return f"{text[:1].upper()}{text[1:]}."
