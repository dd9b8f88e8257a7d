"""params.yaml as validated settings: the whole file is checked before anything runs.

A wrong key is answered with the nearest one, a wrong value with its path, the value and the rule.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from flows import watched
from flows.document import FILE as FILE
from flows.document import Document, check_shape
from flows.document import SettingsError as SettingsError
from flows.elsewhere import Elsewhere
from flows.searches import LARGEST_SEED, STRICT, Search, Seed, merged
from nas import atomic
from nas.components import component, component_name, sentences
from nas.data.prepare import Splits
from nas.data.sources.base import Source
from nas.engines.base import Engine
from nas.engines.local import Local
from nas.evaluators.scratch import Scratch
from nas.tasks.base import Task
from nas.training.recipe import Recipe

Device = Annotated[str, *Scratch.model_fields["device"].metadata]


def _once(seeds: list[int]) -> list[int]:
    if len(set(seeds)) != len(seeds):
        raise ValueError("give each once, since equal seeds give equal weights")
    return seeds


def _seeded(splits: Splits) -> Splits:
    if splits.seed > LARGEST_SEED:
        raise PydanticCustomError("component_settings", "", {"lines": [f"seed is {splits.seed}: should be at most {LARGEST_SEED}"]})
    return splits


class Prepare(BaseModel):
    """From your files to one prepared dataset."""

    model_config = STRICT

    task: Annotated[Task, *component("tasks")]
    """What is to be learned."""
    source: Annotated[Source, *component("data.sources")]
    """Where the data come from."""
    splits: Annotated[Splits, AfterValidator(_seeded)] = Splits()
    """How the examples are divided."""


class Train(BaseModel):
    """Full training of the winner."""

    model_config = STRICT

    trial: int | None = Field(None, ge=0)
    """Which candidate of the search to train, by its trial's number in results/search/candidates.json; null for the winner."""
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(_once)] = [0, 1, 2]
    """One training each; their spread is reported, the best on `confirm` ships."""
    workers: int = Field(1, ge=1)
    """Trainings side by side, each with one thread; does not change the result."""
    epochs: int = Field(40, ge=1)
    """Passes over the training examples."""
    use_confirm: bool = False
    """Train on `confirm` too; then the last weights of the first seed ship, since nothing is left to choose by."""
    recipe: Recipe = Recipe()
    """How the winner is trained."""
    device: Device = "auto"
    """Where to train: `cpu`, `cuda`, `cuda:1`, or `auto`."""


class Deployment(BaseModel):
    """Where the model will run; latencies are measured so, on this machine."""

    model_config = STRICT

    batch_size: int = Field(1, ge=1)
    """Images of one run."""
    threads: int = Field(1, ge=1)
    """Threads of one run."""
    provider: str = Field("CPUExecutionProvider", min_length=1)
    """What executes, by onnxruntime's name."""


class Export(BaseModel):
    """The file that ships."""

    model_config = STRICT

    exporter: Literal["dynamo", "torchscript"] = "torchscript"
    """PyTorch's exporter to use; the one used is recorded in the file. `torchscript` takes a twentieth of the time, `dynamo` is newer."""
    int8: Literal["measure", "never"] = "measure"
    """Whether an int8 variant is made, scored and timed too; it ships where it is faster on this machine and loses little."""
    int8_loss: float = Field(0.005, ge=0)
    """How much of the metric that the winner was chosen by the int8 variant may lose on `confirm` and still ship."""
    measured: Elsewhere | None = None
    """What other devices measured of the candidate that is trained, as `nasflow rank --choose` writes it; a constraint on `latency_ms` is
    judged by that then, and not on this machine."""
    tolerance: float = Field(1e-4, gt=0)
    """Largest difference of logits between PyTorch and ONNX Runtime, relative to the largest logit when that is above 1."""
    web: bool = False
    """Put a page into the bundle that runs the model in a browser; fetches onnxruntime-web from the npm registry once, 33 MB."""


class Settings(BaseModel):
    """Everything a user can set: one section per stage, and what is no stage's own."""

    model_config = STRICT

    target: Deployment = Deployment()
    engine: Annotated[Engine, *component("engines")] = Local()
    """Where trials are evaluated; changes no result, so no stage runs again for it."""
    prepare: Prepare
    search: Annotated[tuple[Search, ...], BeforeValidator(merged), Field(min_length=1)]
    """The search, or a list of searches that follow each other; the last one finds the winner."""
    train: Train = Train()
    export: Export = Export()

    def files(self) -> Iterator[tuple[str, str, str]]:
        """The files and folders of the user that stages read: the stage, the setting that names the path, the path as written there."""
        yield from (("prepare", "prepare.source", path) for path in self.prepare.source.paths())
        for at, search in enumerate(self.search):
            place = f"search.{at}.evaluator" if len(self.search) > 1 else "search.evaluator"
            yield from (("search", place, path) for path in search.evaluator.paths())

    @model_validator(mode="after")
    def _searches_are_sound(self) -> Self:
        lines = [f"search.{at}.{line}" for at, search in enumerate(self.search) for line in search.mistakes(self.prepare.task)]
        lines += [
            f"search.{at}.space differs from that of the search before: searches that follow each other search one space"
            for at in range(1, len(self.search))
            if self.search[at].space != self.search[at - 1].space
        ]
        lines += [*self._unmeasured(), *self._misplaced()]
        if lines:
            raise PydanticCustomError("component_settings", "", {"lines": lines})
        return self

    def _misplaced(self) -> Iterator[str]:
        """Why the trials of a search cannot be evaluated by the engine."""
        name = component_name(self.engine)
        for at, search in enumerate(self.search):
            if wrong := self.engine.wrong_devices(search.devices):
                yield f"search.{at}.{wrong}"
            if self.engine.device is not None and "device" not in type(search.evaluator).model_fields:
                yield f"engine gives every trial a GPU, but the evaluator {component_name(search.evaluator)!r} uses none: leave them out"
        if name != component_name(Local()) and all(search.evaluator.commit_every > 1 for search in self.search):
            yield f"engine is {name}, but every search shares weights between trials, which only one process can: set it to local"

    def _unmeasured(self) -> list[str]:
        """What the gate is asked to hold, but could not measure."""
        names = [name for name in self.search[-1].objective.constraints if name.startswith("int8_")]
        if self.export.int8 != "never" or not names:
            return []
        return [f"export.int8 is never, but search.objective.constraints bounds {names[0]!r}: set it to measure, or drop the constraint"]


def read(
    root: Path,
    overrides: Sequence[str] = (),
    writing: AbstractContextManager[object] | None = None,
    example: Path | None = None,
    *,
    present: bool = False,
) -> Settings:
    """Return the validated settings of a project; `overrides` are `section.key=value`, as YAML, and are written to the file.

    The sections of `example`, another file of settings, come first and replace those of the file. `writing` is entered around the
    write; what it raises keeps the file as it was. present: whether the user's files that they name have to be there. Raises
    SettingsError, with every mistake on a line of its own; the file is then as it was, too.
    """
    document = Document(root / FILE, list(Settings.model_fields))
    if example is not None:
        document.take_over(example)
    for override in overrides:
        document.override(override)
    settings = parse(document.content, document.said)
    absent = [path for search in settings.search for path in search.warm_start if not (root / path).exists()]
    if absent:
        mistake = f"search.warm_start names {absent[0]}, which does not exist: name the folder of a search, or leave it out"
        raise SettingsError(document.said(mistake))
    tangled = [f"{place} {sentence}" for _, place, path in settings.files() for sentence in watched.tangled(root, [path])]
    if tangled:
        raise SettingsError("\n".join(map(document.said, tangled)))
    lost = [f"{place} reads {path}" for _, place, path in settings.files() if present and not (root / path).exists()]
    if lost:
        raise SettingsError(document.said(f"{lost[0]}, which does not exist: put the data there, or correct the path"))
    if overrides or example is not None:
        with writing or nullcontext():
            atomic.write(root / FILE, document.dump)
    return settings


def _of_file(mistake: str) -> str:
    return f"{FILE}: {mistake}"


def parse(document: Any, said: Callable[[str], str] = _of_file) -> Settings:
    """Validate settings that were read already; `said` puts before a mistake who made it.

    Raises SettingsError with every mistake on a line of its own.
    """
    check_shape(document)
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        lines = sentences(error, Settings)
        if not (isinstance(document, Mapping) and isinstance(document.get("search"), list)):
            lines = [re.sub(r"^search\.0\b", "search", line) for line in lines]
        raise SettingsError("\n".join(map(said, lines))) from error
