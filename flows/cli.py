"""The `nasflow` command."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from flows.commands import import_data, rank, released, runs, serve, serve_model, verify, watch, why
from flows.commands.stages import METAVAR, Stage, named
from flows.ending import errors, stoppable, written

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Neural architecture search that ships what it measured.",
)

app.add_typer(runs.app, name="runs")
app.command("verify")(verify.verify)
app.command("why")(why.why)
app.command("import")(import_data.import_data)
app.command("serve-model")(serve_model.command)
app.command("rank")(rank.rank)
app.command("watch")(watch.watch)
app.command("serve")(serve.command)
app.command("setup-server")(serve.setup_server)
app.command("promote")(released.promote)
app.command("released")(released.released)

Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Override a setting, as section.key=value; it is written to params.yaml.")
]


@app.command()
def run(
    stages: Annotated[
        list[Stage] | None, typer.Argument(parser=named, metavar=METAVAR, help=f"Only these of {', '.join(Stage)}; all of them by default.")
    ] = None,
    overrides: Overrides = None,
    force: Annotated[bool, typer.Option("--force", help="Run stages that are up to date, too.")] = False,
    fallback: Annotated[bool, typer.Option("--fallback", help="Where the winner may not ship, train the next candidate instead.")] = False,
    better: Annotated[
        bool, typer.Option("--promote-if-better", help="Release the model where it is better than the released one.")
    ] = False,
) -> None:
    """Run the pipeline: every stage that is not up to date, through DVC, shown in Prefect."""
    with errors():
        from flows import fallback as falling_back
        from flows import launch

        wanted = [stage.value for stage in stages] if stages else None

        def once(others: Sequence[str]) -> int:
            check = [word for override in (*(overrides or ()), *others) for word in ("--set", override)]
            return launch.run(Path.cwd(), wanted, force=force, check=check)

        code = falling_back.run(Path.cwd(), once) if fallback else once(())
        if code == 0:
            from flows import results

            results.show_after(Path.cwd(), wanted or list(Stage))
    if code == 0 and better:
        released.promote()
    sys.exit(code)


@app.command()
def stage(
    name: Annotated[Stage, typer.Argument(parser=named, metavar=METAVAR, help=f"One of {', '.join(Stage)}.")], overrides: Overrides = None
) -> None:
    """Run one stage by itself, as dvc.yaml does; no Prefect, no server."""
    from flows.processes import die_with_parent

    if "DVC_STAGE" in os.environ:
        die_with_parent(gently=True)
    begun = time.monotonic()
    with stoppable(), errors():
        from flows import lineage, settings, tracking

        if overrides:
            settings.read(Path.cwd(), overrides, tracking.editing(Path.cwd()))
        record = lineage.read(Path.cwd(), name.value)  # before the settings, so that an edit in between is noticed
        _stage(name)(Path.cwd(), settings.read(Path.cwd()), record | {"begun": begun})


def _stage(name: Stage) -> Callable[..., None]:
    """The function of a stage; only its own imports are paid."""
    from importlib import import_module

    function: Callable[..., None] = import_module(f"flows.stages.{name.value}").run
    return function


@app.command()
def check(overrides: Overrides = None) -> None:
    """Check params.yaml as a whole, and let dvc.yaml name the data it points to; overrides are written when all is well."""
    with errors():
        from flows import settings, tracking, watched

        files = list(settings.read(Path.cwd(), overrides or [], tracking.editing(Path.cwd()), present=True).files())
        for name, what in (("prepare", "prepare.source"), ("search", "search.evaluator")):
            if watched.watch(Path.cwd(), [path for stage, _, path in files if stage == name], name):
                print(f"dvc.yaml now names the data of {what}")
        print("params.yaml is valid")


@app.command()
def use(
    file: Annotated[Path, typer.Argument(help="A file with sections of settings, such as examples/darts.yaml.")],
    overrides: Overrides = None,
) -> None:
    """Take the sections of another file into params.yaml, in the place of those it has; the whole is checked first."""
    with errors():
        from flows import settings, tracking

        settings.read(Path.cwd(), overrides or [], tracking.editing(Path.cwd()), file)
        print(f"params.yaml now has the settings of {file.name}; `nasflow run` runs them")


@app.command()
def show() -> None:
    """Print what the last run found."""
    with errors():
        from flows import results

        results.show(Path.cwd())


@app.command("schema")
def write_schema() -> None:
    """Write the JSON Schema of params.yaml beside it."""
    from flows import schema

    print(schema.write_schema(Path.cwd()))


def main() -> None:
    """Run the command line."""
    with written():
        app()


if __name__ == "__main__":
    main()
