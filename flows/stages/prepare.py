"""prepare: your files become one prepared dataset in results/prepare."""

from pathlib import Path
from typing import Any

from flows import console, watched
from flows.run_folder import RunError, publish
from flows.settings import Settings
from nas import atomic
from nas.components import describe
from nas.data.prepare import prepare


def run(root: Path, settings: Settings, record: dict[str, Any]) -> None:
    """Prepare the data and publish them.

    Raises DataError when the data cannot be used; nothing is published then.
    """
    chosen = settings.prepare
    unseen = watched.unwatched(record, chosen.source.paths())
    if unseen:
        raise RunError(f"dvc.yaml does not name {', '.join(unseen)}, so changed data would go unseen: `nasflow check` puts it there")
    with publish(root, "prepare", record) as folder, console.progress(root, "prepare", 1) as report:
        target = folder / "data"
        described = prepare(chosen.source, chosen.splits, target, task=str(describe(chosen.task)["name"]), root=root)
        for path in target.iterdir():
            path.rename(folder / path.name)
        target.rmdir()
        rows = _rows(described)
        atomic.write_json(folder / "summary.json", console.summary("Prepared data", rows))
        report(1, f"{sum(described.counts.values())} images of {len(described.classes)} classes")


def _rows(described: Any) -> list[tuple[str, str]]:
    height, width, channels = described.input_shape
    return [
        ("images", f"{height} x {width} x {channels}, {described.input_dtype}"),
        ("classes", f"{len(described.classes)}: {', '.join(described.classes[:12])}{' …' if len(described.classes) > 12 else ''}"),
        *((split, f"{count} images") for split, count in described.counts.items()),
        ("digest", described.digest[:16]),
    ]
