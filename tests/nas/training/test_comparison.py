"""The verdict on two scores: what is noise and what is not."""

import pytest

from nas.training.comparison import Measured, compare


@pytest.mark.parametrize(
    ("searched", "retrained", "verdict"),
    [
        (0.98, (0.982, 0.978, 0.98), "within noise"),
        (0.98, (0.80, 0.81, 0.79), "lower"),
        (0.60, (0.90, 0.91, 0.89), "higher"),
        (0.98, (0.97,), "within noise"),
        (1.0, (0.985, 0.988, 0.986), "within noise"),
    ],
)
def test_the_verdict_on_shares(searched: float, retrained: tuple[float, ...], verdict: str) -> None:
    assert compare(Measured((searched,), 180), Measured(retrained, 360), share=True).verdict == verdict


def test_the_noise_of_known_cases() -> None:
    # 90 of 100 and 90 of 100: (92 / 104) (12 / 104) / 104 on both sides
    even = compare(Measured((0.9,), 100), Measured((0.9,), 100), share=True)
    assert (even.difference, even.noise) == (0.0, pytest.approx(0.0886, abs=1e-4))
    # all right on both sides is still not certain
    assert compare(Measured((1.0,), 180), Measured((1.0,), 360), share=True).noise == pytest.approx(0.0171, abs=1e-4)
    # a loss has only the spread over seeds
    assert compare(Measured((0.1,), 180), Measured((0.13, 0.15), 360), share=False).noise == pytest.approx(0.02)


def test_more_examples_make_a_difference_more_than_noise() -> None:
    assert compare(Measured((0.90,), 100), Measured((0.88, 0.88), 100), share=True).within_noise
    assert not compare(Measured((0.90,), 100_000), Measured((0.88, 0.88), 100_000), share=True).within_noise
