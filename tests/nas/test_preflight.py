"""Before any training: every option takes part in an architecture that is exported, and the option that cannot ship is named."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from planted import Planted
from small_images import one_thread, task_of

from nas import preflight as module
from nas.architecture import Architecture, Choices
from nas.evaluators.base import Bench
from nas.preflight import PreflightError, covering, preflight
from nas.processes import DiedError, Work
from nas.spaces.base import SearchSpace
from nas.spaces.chain import Chain
from nas.spaces.mobile import Mobile
from nas.tasks.image_classification import ImageClassification
from nas.testing.blocks import Noted

__all__ = ["one_thread"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Noted:
    return Noted(tmp_path_factory.mktemp("data") / "prepared", 100)


def bench_of(data: Noted, space: SearchSpace) -> Bench:
    return Bench(space, ImageClassification().bind(data.description), data, data.folder.parent / "run", 0)  # type: ignore[arg-type]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Architecture]:
    """Preflights ask in this process, and everything that they ask is noted."""
    found: list[Architecture] = []

    @contextmanager
    def asker(bench: Bench, exporter: str, tolerance: float) -> Iterator[module.Ask]:
        exporting = module._Exporting(bench, exporter, tolerance)

        def ask(architecture: Architecture) -> str | None:
            found.append(architecture)
            return exporting.answer(architecture)

        yield ask

    monkeypatch.setattr(module, "_asker", asker)
    return found


def refusal(bench: Bench) -> str:
    with pytest.raises(PreflightError) as refused:
        preflight(bench, "torchscript", 1e-4)
    sentence = str(refused.value)
    assert len(sentence.splitlines()) == 1
    assert sentence.endswith("; leave it out of the space, mend it, or export otherwise than by 'torchscript' (export.exporter)")
    return sentence


def test_a_sound_space_passes_with_few_architectures(data: Noted, asked: list[Architecture]) -> None:
    space = Chain.model_validate({"widths": [[4, 8]], "blocks": 1, "kernels": [3], "expansions": [1, 2]})
    bench = bench_of(data, space)
    assert preflight(bench, "torchscript", 1e-4) == len(asked)
    choices = space.choices(bench.task)
    met = {decision for architecture in asked for decision in space.decisions(architecture, bench.task).items()}
    assert met == {(choice.name, option) for choice in choices for option in choice.options}
    assert len(asked) == max(len(choice.options) for choice in choices)


@pytest.mark.parametrize("space", [Chain(), Mobile()], ids=["chain", "mobile"])
def test_a_few_architectures_hold_every_option_that_can_take_part(space: SearchSpace) -> None:
    task = task_of((32, 32, 3))
    choices = space.choices(task)
    found = covering(choices, lambda architecture: space.decisions(architecture, task), np.random.default_rng(0))
    met = {decision for architecture in found for decision in space.decisions(architecture, task).items()}
    assert {(choice.name, option) for choice in choices for option in choice.options} == met
    assert len(found) <= 4 * max(len(choice.options) for choice in choices)


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("wrong", "ParityError: the ONNX file does not follow its module: on 8 examples "),
        ("impossible", "ExportError: exporter 'torchscript' cannot translate the module (UnsupportedOperatorError: "),
    ],
)
def test_an_option_that_cannot_ship_is_named(way: str, words: str, data: Noted, asked: list[Architecture]) -> None:
    sentence = refusal(bench_of(data, Planted(ways=("good", way))))
    assert sentence.startswith(f"search.space holds what cannot ship, way_0 = {way}: {words}")


def test_each_of_several_is_named_in_each_place_where_it_may_be(data: Noted, asked: list[Architecture]) -> None:
    sentence = refusal(bench_of(data, Planted(ways=("good", "wrong", "impossible"), places=2)))
    named = sentence.removeprefix("search.space holds what cannot ship, ").split(":")[0]
    assert sorted(named.split(", ")) == [f"way_{place} = {way}" for place in (0, 1) for way in ("impossible", "wrong")]


def test_where_nothing_ships_the_whole_network_is_named(data: Noted, asked: list[Architecture]) -> None:
    sentence = refusal(bench_of(data, Planted(ways=("wrong",))))
    assert sentence.startswith("search.space holds a network that cannot ship (width 4, way_0 wrong): ParityError: ")


class _Pairs:
    """Choices whose options fail only together, which no single option is to blame for."""

    def __init__(self, failing: Callable[[Mapping[str, str]], bool]) -> None:
        self.failing = failing

    def ask(self, architecture: Architecture) -> str | None:
        return "fails" if self.failing(architecture) else None


def test_options_that_fail_only_together_are_blamed_on_the_network(data: Noted) -> None:
    bench = bench_of(data, Planted(ways=("good", "wrong"), places=2))
    together = _Pairs(lambda architecture: architecture["way_0"] == architecture["way_1"] == "wrong")

    def decisions(architecture: Architecture) -> Mapping[str, str]:
        return bench.space.decisions(architecture, bench.task)

    failed = [(Architecture({"width": "4", "way_0": "wrong", "way_1": "wrong"}), "fails")]
    good = [Architecture({"width": "4", "way_0": "good", "way_1": "good"})]
    assert module._guilty(failed, good, decisions, together.ask) == []
    assert "holds a network that cannot ship (width 4, way_0 wrong, way_1 wrong): fails" in module._sentence([], failed[0], "torchscript")


def test_an_option_that_ends_the_process_is_found_as_well(data: Noted, monkeypatch: pytest.MonkeyPatch) -> None:
    class Dying:
        """A process that an option ends; tests/nas/test_workers.py has real ones."""

        def __init__(self, work: Work) -> None:
            self.ended = False

        def run(self, question: Architecture, patience: float) -> str | None:
            if question["way_0"] == "deadly":
                raise DiedError("the worker process died twice, the last time ended with exit status 3")
            return None

        def end(self) -> None:
            self.ended = True

    monkeypatch.setattr(module, "Slot", Dying)
    sentence = refusal(bench_of(data, Planted(ways=("good", "deadly"))))
    assert "what cannot ship, way_0 = deadly: the worker process died twice" in sentence


def test_a_space_without_decisions_is_asked_as_it_is() -> None:
    assert covering(Choices([]), dict, np.random.default_rng(0)) == [Architecture({})]


def test_what_is_written_on_the_way_is_removed(
    data: Noted, asked: list[Architecture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    preflight(bench_of(data, Planted(ways=("good",))), "torchscript", 1e-4)
    assert asked
    assert list(tmp_path.iterdir()) == []
