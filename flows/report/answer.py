"""The answer first: what ships, how good it is, how sure that is, and whether it keeps to what was demanded."""

from collections.abc import Iterator

from flows import results
from flows.report import progress
from flows.report.facts import Facts
from flows.report.html import Markup, Section, Table, element, note
from nas.training.comparison import Measured, standard_error


def section(facts: Facts) -> Section:
    """The headline figures as tiles, then the sentences behind them."""
    tiles = [
        element("div", None, element("dt", None, name), element("dd", None, value), _small(text)) for name, value, text in _tiles(facts)
    ]
    table = Table("What ships", ("what", "answer"), rows(facts))
    return Section("answer", "Answer", [element("dl", {"class": "tiles"}, *tiles), table.html(), *_doubts(facts)], [table])


def headline(facts: Facts) -> str:
    """The metric of the retrained winner with its spread over seeds, and that of the file where it computes coarser."""
    name, ships = facts.metric, facts.manifest["ships"]
    coarser = "" if ships == "float" else f", {facts.manifest['test'][name]:.4f} as the {ships} file that ships"
    return f"{name} {facts.details['test'][name]:.4f}{_spread(facts)} on test{coarser}"


def rows(facts: Facts) -> list[tuple[str, str]]:
    """What a person wants to know first, in sentences."""
    manifest, best = facts.manifest, {**facts.best, **facts.shipped}
    return [
        ("architecture", results.words(best)),
        *results.scores(facts.details, manifest),
        ("against random", progress.sentence(facts)),
        ("latency", results.latency(manifest)),
        *((f"demanded {name}", held) for name, held in results.demands(best, manifest).items()),
        ("model", results.model(manifest)),
        ("variant", manifest["why"]),
        ("file", f"results/export/model.onnx, sha256 {manifest['sha256'][:16]}"),
    ]


def _tiles(facts: Facts) -> Iterator[tuple[str, str, str]]:
    manifest, name = facts.manifest, facts.metric
    seeds, latency = len(facts.details["seeds"]), manifest["latency"]
    spread = f"mean and spread of {seeds} seeds" if seeds > 1 else "one seed, so its spread is not known"
    yield f"{name} on test", f"{facts.details['test'][name]:.4f}{_spread(facts)}", f"{spread}; {_examples(facts)}"
    yield "ships", f"{manifest['test'][name]:.4f}", f"{name} of the {manifest['ships']} file, seed {facts.details['shipped']['seed']}"
    how = f"batch {latency['batch_size']}, {latency['threads']} thread{'s' if latency['threads'] > 1 else ''}"
    yield "latency", f"{latency['ms']:.3g} ms", f"{latency['low']:.3g} to {latency['high']:.3g}, {how}, {latency['processor']}"
    parameters = facts.shipped["metrics"]["select"].get("parameters")
    weights = f"{parameters:,.0f} parameters, {manifest['ships']}" if parameters is not None else str(manifest["ships"])
    yield "size", f"{manifest['bytes'] / 1024:,.0f} KiB", weights
    demands = results.demands({**facts.best, **facts.shipped}, manifest)
    if demands:
        said = "not met" if any(": not met" in held for held in demands.values()) else f"{'all ' if len(demands) > 1 else ''}met"
        yield "demands", said, "; ".join(f"{key} {held.split(': ')[0]}" for key, held in demands.items())
    else:
        yield "demands", "none", "the objective names no constraint"


def _spread(facts: Facts) -> str:
    return f" ± {facts.details['test_std'][facts.metric]:.4f}" if len(facts.details["seeds"]) > 1 else ""


def _examples(facts: Facts) -> str:
    """On how many examples the score rests, and the noise that this leaves where it is a share of them."""
    name, number = facts.metric, int(facts.dataset["counts"]["test"])
    if name not in facts.telemetry["shares"]:
        return f"{number} examples"
    noise = 2 * standard_error(Measured((facts.details["test"][name],), number), share=True)
    return f"{number} examples leave ±{noise:.4f} (two standard errors)"


def _doubts(facts: Facts) -> Iterator[Markup]:
    """What a reader should know before believing the figures."""
    if not facts.manifest["latency"]["steady"]:
        yield note("The machine was not steady while the latency was measured: measure again on a quiet one.")
    if facts.shipped["trial"] != facts.best["trial"]:
        yield note(f"What ships is trial {facts.shipped['trial']}, not the winner of the search, trial {facts.best['trial']}.")
    parity = facts.manifest["parity"]
    ships = facts.manifest["ships"]
    checked = "The file" if ships == "float" else f"The file in floats, of which the {ships} file was made,"
    agree = "all" if parity["agreement"] == 1 else f"{parity['agreement']:.2%}"
    yield note(
        f"{checked} was checked against PyTorch on {parity['examples']} test images: {agree} of the predictions agree, logits differ by "
        f"at most {parity['largest_difference']:.1e}. Test data were opened once, after everything was chosen."
    )


def _small(text: str) -> Markup:
    return element("dd", {"class": "small"}, text)
