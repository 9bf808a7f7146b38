"""What settings have in common: fixed once made, complete, and without unknown keys.

Bounds stand at the fields, so a recipe and a direct call are judged by the same rule.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
Epsilon = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]  # of pixels in [0, 1]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Percent = Annotated[float, Field(gt=0, le=100)]


class Settings(BaseModel):
    """A frozen set of named values. Abstract: one subclass for each stage or objective."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, strict=True, protected_namespaces=()
    )
