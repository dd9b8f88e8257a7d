"""`nasflow import`: brings data into the project and under DVC."""

from pathlib import Path
from typing import Annotated

import typer

from flows.ending import errors, stoppable


def import_data(
    source: Annotated[str, typer.Argument(help="A file, a folder, or the URL of a file (https, s3, …: whatever DVC can fetch from).")],
    to: Annotated[str | None, typer.Option(help="Where to put it in the project; by default data/NAME.")] = None,
    sha256: Annotated[str | None, typer.Option(help="The SHA-256 that a single file must have.")] = None,
    use: Annotated[bool, typer.Option("--use", help="Also make it the source of the data in params.yaml.")] = False,
) -> None:
    """Copy or fetch data into the project and track them with DVC, so that they are pushed, pulled and watched with the results."""
    with stoppable("nothing was imported"), errors():
        from flows import importing, settings, tracking, watched

        root = Path.cwd()
        found = importing.bring(root, source, to, sha256)
        size = f"{found.files} files, {found.bytes:,} bytes" if found.sha256 is None else f"{found.bytes:,} bytes, sha256 {found.sha256}"
        print(f"{found.path}: {size}")
        ignored = Path(found.path).parent / ".gitignore"
        print(f"Git keeps what names them: git add {found.note}{f' {ignored}' if (root / ignored).exists() else ''}")
        chosen = importing.source_for(root, found.path)
        override = f"prepare.source={{name: {chosen['name']}, path: {found.path}}}"
        if not use:
            print(f'to use them: nasflow check --set "{override}"')
            return
        settings.read(root, [override], tracking.editing(root))
        watched.watch(root, [found.path])
        print(f"params.yaml now reads {found.path}, and dvc.yaml watches it; `nasflow run` runs what depends on it")
