"""How files of a project are measured, by its settings, and where measurements are kept."""

from pathlib import Path

from export.machine import Target
from export.session import provider_problem
from export.structures import Costing
from flows.settings import Settings
from flows.tracking import WORK

FOLDER = "measurements"
"""Below `.nasflow`: what was measured of structures and files, by machine and target. No run's folder, since all runs share it."""


ROUGH = 1e-3
"""Tolerance for networks that nobody has trained: it finds a wrong translation. `export.tolerance` is for the file that ships, and
changing it must not mean another search."""


def costing_of(root: Path, settings: Settings) -> Costing:
    """How files of this project are measured. Raises ValueError when this onnxruntime lacks the target's provider."""
    target = Target(**settings.target.model_dump())
    if problem := provider_problem(target):
        raise ValueError(f"target.provider: {problem}")
    return Costing(target, settings.export.exporter, ROUGH, root / WORK / FOLDER)
