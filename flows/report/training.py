"""How the winner was trained: its metric over the epochs, every seed's score, and which classes are taken for which."""

from collections import Counter

from flows.report.charts import Chart, Line, legend
from flows.report.facts import Facts
from flows.report.html import Content, Markup, Section, Table, element, note, scrolling
from flows.report.words import count, figure

_CLASSES = 20
"""With more classes the commonest confusions are listed and no matrix is drawn."""
_PAIRS = 12


def section(facts: Facts) -> Section:
    """The training curve of each seed, and their scores."""
    seeds = list(facts.details["seeds"])
    table = Table("Seeds on test", ("seed", *_names(facts)), [_seed(facts, name) for name in seeds], frozenset(_names(facts)))
    body: list[Content] = [chart(facts).svg(), legend([(f"line seed-{at % 6}", name.replace("_", " ")) for at, name in enumerate(seeds)])]
    return Section("training", "Training of the winner", [*body, table.html()], [table], wide=False)


def chart(facts: Facts) -> Chart:
    """The metric on confirm over the epochs, or the training loss where nothing was held out."""
    column = facts.metric if facts.curve and facts.curve[0].get(facts.metric) else "training_loss"
    lines = []
    for at, seed in enumerate(dict.fromkeys(row["seed"] for row in facts.curve)):
        places = [(float(row["epoch"]), float(row[column])) for row in facts.curve if row["seed"] == seed]
        lines.append(Line(places, f"line seed-{at % 6}"))
    name = f"{column} on confirm" if column == facts.metric else "training loss"
    summary = f"{name} over the epochs of {count(len(lines), 'seed')}"
    return Chart(summary, "epoch", name, lines=lines, whole=True)


def confusion_section(facts: Facts) -> Section:
    """A matrix of actual and predicted classes, or the commonest confusions of many classes."""
    classes, counts = facts.dataset["classes"], Counter(facts.confusion)
    wrong = sum(number for (actual, predicted), number in counts.items() if actual != predicted)
    floats = "" if facts.manifest["ships"] == "float" else ", in floats"
    words = note(f"{wrong} of {count(len(facts.confusion), 'test image')} are taken for another class by the weights that ship{floats}.")
    table = _commonest(counts)
    shown = _matrix(classes, counts) if len(classes) <= _CLASSES else table.html()
    return Section("confusion", "Confusion on test", [shown, words], [table] if table.rows else [], wide=False)


def _names(facts: Facts) -> list[str]:
    return list(facts.details["test"])


def _seed(facts: Facts, name: str) -> tuple[str, ...]:
    number = name.removeprefix("seed_")
    mark = " (ships)" if number == str(facts.details["shipped"]["seed"]) else ""
    return (f"{number}{mark}", *(figure(facts.details["seeds"][name][metric]) for metric in _names(facts)))


def _commonest(counts: "Counter[tuple[str, str]]") -> Table:
    wrong = sorted(((number, pair) for pair, number in counts.items() if pair[0] != pair[1]), key=lambda row: (-row[0], row[1]))
    rows = [(actual, predicted, str(number)) for number, (actual, predicted) in wrong[:_PAIRS]]
    return Table("Commonest confusions on test", ("actual", "predicted", "images"), rows, frozenset(("images",)))


def _matrix(classes: list[str], counts: "Counter[tuple[str, str]]") -> Markup:
    caption = "Test images by actual class (rows) and predicted class (columns)"
    head = [element("td"), *(element("th", {"scope": "col", "class": "number"}, name) for name in classes)]
    body = []
    for actual in classes:
        total = sum(counts[actual, predicted] for predicted in classes) or 1
        cells = [_cell(counts[actual, predicted], total, actual == predicted) for predicted in classes]
        body.append(element("tr", None, element("th", {"scope": "row"}, actual), *cells))
    parts = [element("caption", None, caption), element("thead", None, element("tr", None, *head)), element("tbody", None, *body)]
    return scrolling(caption, element("table", {"class": "matrix"}, *parts))


def _cell(number: int, total: int, right: bool) -> Markup:
    depth = 0 if number == 0 else 1 + min(3, int(4 * number / total))
    return element("td", {"class": f"number {'right' if right else 'wrong'}-{depth}"}, str(number) if number else "")
