"""What the arguments of every network here must be, checked in one wording."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from snnc.errors import InvalidSetting


def require(network: str, problems: Iterable[str]) -> None:
    """Raise InvalidSetting with the network's name and all problems, if there is one."""
    if found := list(problems):
        raise InvalidSetting(f"{network}: {'; '.join(found)}")


def counts(**values: object) -> Iterator[str]:
    """Yield a problem for each value, by its name, that is no whole number above 0."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            yield f"{name} is {value!r}, give a whole number above 0"


def divides(size: int, by: int, why: str) -> Iterator[str]:
    """Yield a problem unless maps of `size` x `size` can be made smaller `by` times."""
    if size % by:
        yield f"images of {size}x{size} for {why}, give a size that divides by {by}"


def shares(dropout: float) -> Iterator[str]:
    """Yield a problem unless `dropout` is a share of [0, 1)."""
    if not 0 <= dropout < 1:
        yield f"dropout is {dropout!r}, give a share from 0 up to, not including, 1"


def channels(in_channels: int, mean: Sequence[float]) -> Iterator[str]:
    """Yield a problem unless there is one mean for each input channel."""
    if len(mean) != in_channels:
        yield f"{len(mean)} means for {in_channels} input channels, give one for each"
