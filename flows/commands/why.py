"""`nasflow why`: where does this model come from?"""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.ending import errors, stoppable


def why(
    file: Annotated[Path, typer.Argument(help="An ONNX file that this project exported; a copy of it elsewhere will do.")] = Path(
        "results/export/model.onnx"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print the chain as one JSON object.")] = False,
    picture: Annotated[Path | None, typer.Option(help="Also draw the chain, as an SVG file of this name.")] = None,
) -> None:
    """Tell where a model comes from, link by link, from its bytes to the commit: whole or open (exit code 0), or broken where (1)."""
    with stoppable("nothing was changed"), errors():
        from flows.why import tell, text

        if picture is not None and picture.suffix != ".svg":
            raise ValueError(f"--picture is {picture}: name a file that ends with .svg")
        chain = tell.why(Path.cwd(), file)
        if picture is not None:
            from flows.why.picture import draw
            from nas import atomic

            atomic.write_text(picture, draw(chain))
        if as_json:
            print(json.dumps(chain.as_json(), indent=2, ensure_ascii=False), flush=True)
        else:
            text.show(chain)
    sys.exit(chain.code)
