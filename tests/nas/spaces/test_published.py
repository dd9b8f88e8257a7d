"""The published identity of NAS-Bench-201 cells, by full enumeration and next to the sound one."""

from itertools import product

import pytest

from nas.spaces.cell import OPERATIONS, canonical_form
from nas.spaces.published import published_form


def test_the_published_count_of_different_cells() -> None:
    assert len({published_form(cell) for cell in product(OPERATIONS, repeat=6)}) == 6466


@pytest.mark.parametrize(
    ("first", "second", "published", "sound"),
    [
        # Node 2 adds two empty edges; the published rule sees "#+#", which is not "#".
        (["none", "none", "none", "nor_conv_3x3", "none", "nor_conv_3x3"], ["none"] * 3 + ["nor_conv_3x3", "none", "none"], False, True),
        # One convolution that is added twice, and two convolutions of their own.
        (
            ["nor_conv_3x3", "none", "skip_connect", "none", "skip_connect", "skip_connect"],
            ["nor_conv_3x3", "nor_conv_3x3", "none", "none", "skip_connect", "skip_connect"],
            True,
            False,
        ),
        (
            ["skip_connect", "none", "none", "none", "nor_conv_1x1", "none"],
            ["none", "none", "none", "nor_conv_1x1", "none", "none"],
            True,
            True,
        ),
    ],
)
def test_where_the_two_rules_agree_and_differ(first: list[str], second: list[str], published: bool, sound: bool) -> None:
    assert (published_form(first) == published_form(second)) is published
    assert (canonical_form(tuple(first)) == canonical_form(tuple(second))) is sound
