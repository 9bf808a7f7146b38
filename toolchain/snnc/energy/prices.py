"""What a profile says: prices, what they rest on, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from snnc.energy.quantity import SCOPE, Equations, Quantity, Scope, Term


class Evidence(Enum):
    """What a price rests on, strongest first."""

    MEASURED = "measured"  # on silicon
    FITTED = "fitted"  # a regression on silicon
    SIMULATED = "simulated"  # before silicon
    DERIVED = "derived"  # arithmetic on published numbers
    DATASHEET = "datasheet"
    ESTIMATED = "estimated"


class Read(Enum):
    """How the author of the profile knows a source."""

    PRIMARY = "primary"  # it was read
    SECONDARY = "secondary"  # through others that quote it
    RECALLED = "recalled"  # from memory, verify before citing


class Unit(Enum):
    """What an estimate under the profile counts."""

    JOULE = "J"
    OPERATION = "op"


class Arithmetic(Enum):
    """The operands that the prices of an arithmetic-only profile are for."""

    FP32 = "fp32"
    INT8 = "int8"


class ImagePasses(Enum):
    """How often the synapses that read the constant image are computed."""

    ONCE = "once"  # and the current is kept
    PER_STEP = "per_step"


@dataclass(frozen=True, kw_only=True)
class Price:
    """One constant with its band, in the unit of its profile (watts for static power)."""

    value: float
    low: float
    high: float
    unit: str
    evidence: Evidence
    source: str  # a key of Profile.sources
    locator: str
    quote: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Unpublished:
    """A constant that exists and that nobody published."""

    note: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where numbers come from."""

    citation: str
    doi: str
    read: Read
    note: str


@dataclass(frozen=True, kw_only=True)
class Case:
    """A worked example: quantities and the sum they must give, within a relative tolerance."""

    name: str
    counts: Mapping[Quantity, float]
    expect: float
    rtol: float


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The prices of one place where a network might run."""

    id: str
    title: str
    equations: Equations
    unit: Unit
    node_nm: float | None
    voltage_v: float | None
    baseline: Arithmetic | None  # the arithmetic in which it can price an ANN, if it can
    image_passes: ImagePasses
    prices: Mapping[Term, Price | Unpublished]
    sources: Mapping[str, Source]
    not_modeled: tuple[str, ...]
    validation: tuple[Case, ...]

    @property
    def scope(self) -> Scope:
        """How much of a system the prices cover."""
        return SCOPE[self.equations]
