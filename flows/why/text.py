"""A chain as text: a tree in a terminal, plain lines elsewhere."""

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from flows.why.chain import Chain, Link, State

_MARKS = {State.HOLDS: ("ok", "green"), State.OPEN: ("open", "yellow"), State.BROKEN: ("broken", "bold red")}
_SHOWN = 40
"""So many facts of a link are shown; the rest is in the JSON."""


def show(chain: Chain) -> None:
    """Print a chain and, at the end, the answer in one sentence."""
    console = Console()
    if console.is_terminal:
        console.print(_tree(chain))
    else:
        print("\n".join(plain(chain)), flush=True)
    print(chain.sentence(), flush=True)


def plain(chain: Chain) -> Iterator[str]:
    """The lines of a chain, without colours."""
    width = max(len(link.name) for link in chain.links)
    for link in chain.links:
        yield f"[{_MARKS[link.state][0]:<6}] {link.name:<{width}}  {link.title}"
        indent = " " * (width + 11)
        facts = _facts(link)
        label = max((len(name) for name, _ in facts), default=0)
        yield from (f"{indent}{name:<{label}}  {value}" for name, value in facts)
        yield from (f"{indent}! {sentence}" for sentence in link.broken)
        yield from (f"{indent}? {sentence}" for sentence in link.unchecked)


def _facts(link: Link) -> list[tuple[str, str]]:
    left = len(link.facts) - _SHOWN
    more = [("…", f"{left} more, which --json shows")] if left > 0 else []
    return [*link.lines[:_SHOWN], *more]


def _tree(chain: Chain) -> Tree:
    tree = Tree(Text(chain.file, style="bold"), guide_style="dim")
    for link in chain.links:
        word, style = _MARKS[link.state]
        branch = tree.add(Text.assemble((f"{link.name} ", "bold"), (word, style), f"  {link.title}"))
        for name, value in _facts(link):
            branch.add(Text.assemble((f"{name}  ", "cyan"), value))
        for sentence in link.broken:
            branch.add(Text(sentence, style="red"))
        for sentence in link.unchecked:
            branch.add(Text(sentence, style="yellow"))
    return tree
