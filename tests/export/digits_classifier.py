"""A real classifier of scikit-learn's digits that is ready in a moment: logistic regression as a network with its preprocessing inside."""

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from export.to_onnx import to_onnx

BYTES: NDArray[np.uint8] = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)[..., None]
EXAMPLES = BYTES[:10]
CLASSES = [*(str(digit) for digit in range(9)), "<b>nine</b>"]


class DigitsClassifier(nn.Module):
    """uint8 N x 8 x 8 x 1 -> logits and probabilities, N x 10."""

    def __init__(self) -> None:
        super().__init__()
        fitted = LogisticRegression(C=0.1, max_iter=200).fit(BYTES[10:].reshape(-1, 64) / 255, load_digits().target[10:])
        self.linear = nn.Linear(64, 10)
        self.linear.load_state_dict({"weight": torch.tensor(fitted.coef_), "bias": torch.tensor(fitted.intercept_)})

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.linear(images.flatten(1).float() / 255)
        return logits, logits.softmax(-1)


def export_digits(path: Path) -> None:
    """Write the classifier as an ONNX file that names its classes."""
    example = torch.zeros(1, 8, 8, 1, dtype=torch.uint8)
    metadata = {"classes": json.dumps(CLASSES)}
    to_onnx(DigitsClassifier(), example, path, outputs=("logits", "probabilities"), metadata=metadata, exporter="torchscript")
