"""The whole chain, from a file to the commit."""

from pathlib import Path

from flows.why import code, data, descent, file, stages
from flows.why.chain import Chain
from flows.why.evidence import gather


def why(root: Path, path: Path) -> Chain:
    """Return the chain of an ONNX file in a project.

    Raises UnknownFileError when the project's results do not know the file, ValueError when nothing was run here or dvc.lock is damaged.
    """
    root = root.resolve()
    evidence = gather(root)
    found = file.identify(evidence, path.resolve())
    trial, ancestors, family = descent.descended(evidence)
    settings, sources, commit = code.committed(evidence)
    links = (
        file.link(evidence, found),
        stages.exported(evidence),
        stages.trained(evidence),
        stages.decided(evidence),
        trial,
        ancestors,
        stages.searched(evidence),
        data.prepared(evidence),
        data.originals(evidence),
        settings,
        sources,
        commit,
    )
    return Chain(found.shown, links, family)
