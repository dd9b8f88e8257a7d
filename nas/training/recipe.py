"""How a network is trained: optimizer, schedule, regularisation, augmentation. Settings only; the loop is in nas.training.loop."""

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Augmentation(BaseModel):
    """Random changes of training images; every one is drawn anew for every image of every batch."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True, allow_inf_nan=False)

    shift: int = Field(0, ge=0)
    """Moves by up to this many pixels, zeros enter (the usual padded crop)."""
    flip: bool = False
    """Mirror left and right with probability one half; wrong for digits and letters."""
    rotate: float = Field(0.0, ge=0, le=180)
    """Turns by up to this many degrees."""
    scale: float = Field(0.0, ge=0, lt=1)
    """Enlarges or shrinks by up to this share."""
    cutout: int = Field(0, ge=0)
    """Side in pixels of a square set to zero (DeVries and Taylor 2017)."""


class Recipe(BaseModel):
    """A training recipe."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, frozen=True, allow_inf_nan=False)

    optimizer: Literal["sgd", "adamw"] = "sgd"
    """`sgd` has Nesterov momentum; `adamw` decouples the weight decay."""
    learning_rate: float = Field(0.1, gt=0)
    """Highest learning rate of the schedule."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of sgd, first beta of adamw."""
    weight_decay: float = Field(5e-4, ge=0)
    """Decay of weight matrices and kernels; biases and normalisations are spared."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """`cosine` falls to zero at the last step (Loshchilov and Hutter 2017)."""
    warmup: float = Field(0.05, ge=0, lt=1)
    """Share of the steps over which the learning rate rises linearly."""
    batch_size: int = Field(64, ge=2)
    """Images per step; all of them when there are fewer."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target spread over all classes."""
    ema: float = Field(0.0, ge=0, lt=1)
    """Decay of the moving average of the weights that is evaluated and shipped; 0 uses the weights themselves."""
    gradient_clip: float = Field(0.0, ge=0)
    """Largest norm of the gradient; 0 does not clip."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """`bfloat16` computes the forward pass in autocast; worth it on GPUs and CPUs that have it in hardware."""
    augmentation: Augmentation = Augmentation()
    """Random changes of training images."""

    def learning_rate_at(self, step: int, total: int) -> float:
        """Return the learning rate of a step, 0 <= step < total."""
        rise = self.warmup * total
        if step < rise:
            return self.learning_rate * (step + 1) / (rise + 1)
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1.0, total - rise)))
