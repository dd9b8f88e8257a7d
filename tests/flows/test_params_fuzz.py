"""Whatever stands in params.yaml or behind --set, the answer is the settings or a sentence that names the file: never a traceback."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as effort
from hypothesis import strategies as st
from typer.testing import CliRunner

from flows import cli, settings
from flows.settings import SettingsError

TEXT = (Path(__file__).resolve().parents[2] / settings.FILE).read_text()
SHORT = """\
prepare: {task: image_classification, source: {name: digits}}
search:
  trials: 3
  space: {name: chain, widths: [[4], [8]]}
  strategy: random
  evaluator: {name: scratch, recipe: {augmentation: {shift: 1}}}
  objective: {metrics: [accuracy], constraints: {flops: "<= 2e6"}}
train: {seeds: [0], recipe: {ema: 0.9}}
"""
ODD = [
    *("{", "[", "}", "]", "&a ", "*a", "&a [*a]", "&a {x: *a}", "<<: 3", "<<: *a", "? [1, 2]\n: 3", "? {a: 1} : 2", "1: 2", "null: 3"),
    *("!!int x", "!!float {}", "!!bool x", "!!null x", "!!binary x", "!!set x", "!!set {a}", "!!omap x", "!!pairs [a]", "!!timestamp x"),
    *("!!python/object:os.system x", "!foo {a: 1}", "!!str {a: 1}", "\t", "\x00", "\n---\n", "%YAML 9.9\n", "|", "@", "`", "#", "'", '"'),
    *("[" * 400, "{a: " * 400, "[[" * 40 + "]]" * 40, '"\\ud800"', '"\\0"', "\ufeff", "\u2028", "..:a", ":", "os:system", "a.b:c"),
    *("1e999", ".nan", "-.inf", "10" * 300, "0b2", "2001-13-99", "12:99:99", "null", "~", "[]", "{}", "", "-1", "x" * 2000),
]
odd = st.sampled_from(ODD) | st.text(max_size=6)
places = st.integers(0, 10**6)
edits = st.lists(st.tuples(st.sampled_from(["value", "value", "insert", "drop line", "repeat line", "drop"]), places, odd), max_size=3)
paths = st.sampled_from(
    ["search", "search.0", "search.0.trials", "train.seeds", "train.seeds.0", "prepare.source", "a.b", "search.space.x"]
)


def edited(text: str, edit: tuple[str, int, str]) -> str:
    how, place, other = edit
    lines = text.splitlines(keepends=True) or [""]
    number = place % len(lines)
    line = lines[number]
    column = place // 7 % (len(line) + 1)
    match how:
        case "value":
            lines[number] = f"{line.split(':')[0]}: {other}\n"
        case "insert":
            lines[number] = line[:column] + other + line[column:]
        case "drop line":
            del lines[number]
        case "repeat line":
            lines.insert(place // 11 % len(lines), line)
        case _:
            lines[number] = line[:column] + line[column + 1 :]
    return "".join(lines)


def read(folder: Path, text: str, overrides: list[str]) -> str | None:
    """Read settings; the sentence with which they were refused, and then the file is as it was."""
    path = folder / settings.FILE
    path.write_bytes(text.encode(errors="surrogatepass"))
    before = path.read_bytes()
    try:
        assert isinstance(settings.read(folder, overrides), settings.Settings)
    except SettingsError as error:
        assert path.read_bytes() == before
        return str(error)
    return None


@effort(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=edits)
@example([("value", 0, "!!int x")])
@example([("value", 0, "? [1, 2]\n: 3")])
@example([("value", 0, "&a {x: *a}")])
@example([("value", 2, "[" * 400)])
def test_edits_give_settings_or_a_sentence(tmp_path: Path, changes: list[tuple[str, int, str]]) -> None:
    text = SHORT
    for change in changes:
        text = edited(text, change)
    sentence = read(tmp_path, text, [])
    assert sentence is None or settings.FILE in sentence


@effort(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=edits)
def test_edits_of_the_file_in_the_repository_do_too(tmp_path: Path, changes: list[tuple[str, int, str]]) -> None:
    text = TEXT
    for change in changes:
        text = edited(text, change)
    sentence = read(tmp_path, text, [])
    assert sentence is None or settings.FILE in sentence


@effort(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.just(SHORT) | odd, path=paths, value=odd)
@example("null", "train.seeds.0", "1")
@example(SHORT, "train.seeds", "? [1, 2]\n: 3")
@example(SHORT, "train.seeds", "!!int x")
@example("1: 2", "a.b", "1")
def test_overrides_give_settings_or_a_sentence(tmp_path: Path, text: str, path: str, value: str) -> None:
    sentence = read(tmp_path, text, [f"{path}={value}"])
    assert sentence is None or settings.FILE in sentence or "--set" in sentence


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("text", ["!!int x", "a: &a [*a]", "? [1, 2]\n: 3", "[" * 400, "\ud800", '"\\ud800": 1', "a: ["])
def test_the_command_line_answers_in_one_sentence(project: Path, text: str) -> None:
    (project / settings.FILE).write_bytes(text.encode(errors="surrogatepass"))
    result = CliRunner().invoke(cli.app, ["check"])
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 1
    assert result.output.startswith(f"nasflow: {settings.FILE}")
    assert "Traceback" not in result.output
