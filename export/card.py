"""README.md of a bundle: what the model is for, what it was made from, what it scores, where it ends, how to run it.

The headings follow Mitchell et al. 2019, "Model cards for model reporting", as far as the manifest knows an answer. What was not
measured is said to be so; nothing is guessed.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Rows = Sequence[Sequence[Any]]


def card(manifest: Mapping[str, Any]) -> str:
    """The card as Markdown; equal manifests give equal text.

    manifest: `export.bundle.manifest_of(model)` and, where known, `classes` (names), `data` ({source, counts per split}), `test`
    (metrics of the file), `retrained` ({seeds, mean, std}: metrics over trainings), `test_difference`, `parity`, `latency`
    (as a measurement of benchmark.py, with `processor`), `vectors` (how many examples test_vectors.npz holds), `page` (is there one).
    """
    sections = (_model(manifest), _data(manifest), _metrics(manifest), _latency(manifest), _limits(manifest), _use(manifest))
    return "\n".join(line for section in sections for line in section)


def _model(manifest: Mapping[str, Any]) -> Iterator[str]:
    yield "# Model card"
    yield ""
    count = len(manifest.get("classes", ()))
    purpose = f"An image classifier of {count} classes" if count else "A model"
    yield f"{purpose}, found and trained by nasflow. `model.onnx` is the file that all figures here are of."
    yield ""
    rows = [["SHA-256", f"`{manifest['sha256']}`"], ["size", f"{manifest['bytes']:,} bytes"], ["ONNX opset", manifest["opset"]]]
    rows += [["input", _described(port)] for port in manifest["inputs"]]
    rows += [["output", _described(port)] for port in manifest["outputs"]]
    yield from _table(["", ""], rows)
    architecture = manifest["metadata"].get("architecture")
    if architecture is not None:
        yield from ("## Architecture", "")
        yield from _table(["decision", "choice"], sorted(_mapping(architecture).items()))


def _described(port: Mapping[str, Any]) -> str:
    return f"`{port['name']}`: {port['dtype']}, {' x '.join(str(size) for size in port['shape'])}"


def _mapping(text: str) -> Mapping[str, Any]:
    """The JSON object in a metadata text, or the text itself under a dash: metadata may hold anything."""
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    return value if isinstance(value, Mapping) else {"-": value}


def _data(manifest: Mapping[str, Any]) -> Iterator[str]:
    yield from ("## Data", "")
    data = manifest.get("data", {})
    if not data and "data_digest" not in manifest:
        yield from ("The manifest does not say what the model was made from.", "")
        return
    rows = [["source", data["source"]]] if "source" in data else []
    rows += [["digest", f"`{manifest['data_digest']}`"]] if "data_digest" in manifest else []
    yield from _table(["", ""], [*rows, *([f"images in {split}", count] for split, count in data.get("counts", {}).items())])
    if data.get("counts"):
        yield "Weights are trained on `fit`, the search sees `select`, finalists are compared on `confirm`; `test` decides nothing."
        yield ""
    if manifest.get("classes"):
        yield f"Classes: {', '.join(_cell(name) for name in manifest['classes'])}."
        yield ""


def _metrics(manifest: Mapping[str, Any]) -> Iterator[str]:
    yield from ("## Metrics", "")
    scores, retrained = manifest.get("test", {}), manifest.get("retrained")
    if not scores:
        yield from ("The manifest holds no scores.", "")
        return
    names = list(scores)
    if retrained is None:
        yield from _table(["on test", "this file"], [[name, _number(scores[name])] for name in names])
    else:
        rows = [[name, _number(scores[name]), *_spread(retrained, name)] for name in names]
        count = retrained["seeds"]
        yield from _table(
            ["on test", "this file", f"mean of {count} trainings" if count > 1 else "its training", "standard deviation"], rows
        )
    if any(manifest.get("test_difference", {}).values()):
        moved = ", ".join(f"{name} {value:+.4f}" for name, value in manifest["test_difference"].items())
        yield f"Rounding the inputs to 8 bits, and ONNX Runtime, changed the scores of these weights by: {moved}."
        yield ""
    parity = manifest.get("parity")
    if parity is not None:
        yield (
            f"Checked against PyTorch on {parity['examples']} images: {parity['differing']} other predictions, "
            f"first output within {parity['largest_difference']:.1e}."
        )
        yield ""


def _spread(retrained: Mapping[str, Any], name: str) -> list[str]:
    known = name in retrained["mean"]
    deviation = _number(retrained["std"][name]) if known and retrained["seeds"] > 1 else "-"
    return [_number(retrained["mean"][name]) if known else "-", deviation]


def _latency(manifest: Mapping[str, Any]) -> Iterator[str]:
    yield from ("## Latency", "")
    latency = manifest.get("latency")
    if latency is None:
        yield from ("Not measured yet: `python benchmark.py` measures it where you run it.", "")
        return
    run = f"batch {latency['batch_size']}, {latency['threads']} thread(s), {_cell(latency['provider'])}"
    yield f"On {_cell(latency['processor'])}, {run}: {_times(latency)}."
    if manifest.get("why"):
        yield from ("", f"Ships in {_cell(manifest['why'])}.")
    for name, words in manifest.get("constraints", {}).items():
        yield from ("", f"Demanded and met: {_cell(name)} {_cell(words)}.")
    yield from ("", "Other machines differ: `python benchmark.py` measures it where you run it.", "")


def _times(latency: Mapping[str, Any]) -> str:
    """A run at rest with its interval, where that is known, and what callers waited."""
    known = "ms" in latency
    rest = f"{latency['ms']:.3f} ms at rest (95 % interval {latency['low']:.3f} to {latency['high']:.3f}); " if known else ""
    return f"{rest}p50 {latency['p50_ms']:.3f} ms, p90 {latency['p90_ms']:.3f} ms, p99 {latency['p99_ms']:.3f} ms"


def _limits(manifest: Mapping[str, Any]) -> Iterator[str]:
    yield from ("## Limits", "")
    if manifest.get("classes"):
        yield "- It answers every image with one of its classes, also an image of none of them."
        yield "- Probabilities come from a softmax and were not calibrated."
    for port in manifest["inputs"]:
        size = " x ".join(str(part) for part in port["shape"][1:])
        yield f"- `{port['name']}` must be {size}, {port['dtype']}; images of another size lose detail or gain none when they are resized."
    yield "- The scores hold for images like those of `test`; nothing is known about others, or about groups among them."
    yield "- Other processors and versions of onnxruntime may differ in the last digits: `python verify.py` says whether they do."
    if "quantized" in manifest["metadata"]:
        yield "- It computes on 8 bits; processors without instructions for that may be slower than with floats."
    yield ""


def _use(manifest: Mapping[str, Any]) -> Iterator[str]:
    yield from ("## How to run it", "", "```", "pip install numpy pillow onnxruntime")
    yield "python predict.py IMAGE    # classify images"
    if manifest.get("vectors"):
        yield f"python verify.py           # the same files, and the same answers to {manifest['vectors']} test images, as exported?"
    yield "python benchmark.py        # time it on this machine, into device.json"
    yield 'tritonserver --model-repository="$PWD/triton"'
    yield "```"
    yield ""
    if manifest.get("page"):
        yield from ("Or open `web/index.html` in a browser: the model runs there, without a server and without a network.", "")
    if manifest.get("versions"):
        yield f"Made with {', '.join(f'{name} {number}' for name, number in sorted(manifest['versions'].items()))}."
        yield ""


def _table(header: Sequence[str], rows: Rows) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield f"| {' | '.join(_cell(value) for value in row)} |"
    yield ""


def _cell(value: Any) -> str:
    """Text that stays in its cell and is no markup of HTML: names of classes and files are a user's."""
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")


def _number(value: float) -> str:
    return f"{value:.4f}"
