"""What all tables of a pipeline file share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """No unknown settings, no guessed types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
