"""The formulas of Gaussian processes, against slow ones."""

from statistics import NormalDist

import numpy as np
import pytest

from nas.strategies.gaussian import Points, evidence, expected_improvement, kernels, normal_scores, positions, posterior


def points(count: int, seed: int = 0) -> Points:
    rng = np.random.default_rng(seed)
    return Points(rng.integers(0, 4, size=(count, 5)).astype(np.int16), rng.random((count, 3)) - 0.5)


def covariance(count: int, others: int) -> tuple[np.ndarray, np.ndarray]:
    """Of `count` points with themselves and with others, by the kernel that uses both parts."""
    kernel, known, new = kernels(features=True)[-1], points(count), points(others, 1)
    return kernel.of(known.to(known)), kernel.of(known.to(new))


@pytest.mark.parametrize("count", [3, 64, 150])
def test_the_posterior_is_that_of_the_textbook(count: int) -> None:
    inner, across = covariance(count, 7)
    targets = np.random.default_rng(2).normal(size=count)
    mean, deviation = posterior(inner, across, targets, 0.1)
    inverse = np.linalg.inv(inner + 0.1 * np.eye(count))
    np.testing.assert_allclose(mean, targets.mean() + across.T @ inverse @ (targets - targets.mean()), atol=1e-9)
    np.testing.assert_allclose(deviation**2, 1 - np.einsum("ic,ij,jc->c", across, inverse, across), atol=1e-9)


def test_running_points_leave_means_and_lower_deviations() -> None:
    inner, across = covariance(20, 50)
    targets = np.random.default_rng(2).normal(size=15)
    mean, deviation = posterior(inner[:15, :15], across[:15], targets, 0.1)
    with_running, lower = posterior(inner, across, targets, 0.1)
    np.testing.assert_allclose(with_running, mean, atol=1e-12)
    assert (lower < deviation).all()


def test_the_evidence_is_the_density_of_the_targets() -> None:
    known, targets = points(70), np.random.default_rng(2).normal(size=70)
    kernel = kernels(features=True)[0]
    centred = targets - targets.mean()
    full = kernel.of(known.to(known)) + kernel.noise * np.eye(70)
    expected = -0.5 * centred @ np.linalg.inv(full) @ centred - 0.5 * np.linalg.slogdet(full)[1]
    assert evidence(kernel, known.to(known), targets) == pytest.approx(expected)


def test_a_kernel_is_one_at_no_distance_and_falls_with_every_choice_and_feature() -> None:
    codes = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 1], [1, 1, 1]], dtype=np.int16)
    for features, expected in ((np.zeros((4, 0)), [0, 1, 2, 3]), (np.array([[0.0], [0.1], [0.2], [0.3]]), [0, 1, 2, 3])):
        some = Points(codes, features)
        apart = some.to(some)
        assert apart.differing[0].tolist() == expected
        for kernel in kernels(features.shape[1] > 0):
            values = kernel.of(apart)[0]
            assert values[0] == pytest.approx(1)
            assert (np.diff(values) < 0).all()


def test_random_features_are_about_one_apart() -> None:
    some = Points(np.zeros((500, 1), dtype=np.int16), positions(*[np.random.default_rng(0).normal(size=(500, 8))] * 2))
    assert some.to(some).distance.mean() == pytest.approx(1, abs=0.05)


def test_expected_improvement_is_the_mean_of_the_gain() -> None:
    draws = np.random.default_rng(0).normal(size=400_000)
    for mean, deviation in ((0.0, 1.0), (1.5, 0.3), (-1.0, 2.0)):
        gain = np.maximum(mean + deviation * draws - 0.7, 0).mean()
        assert expected_improvement(np.array([mean]), np.array([deviation]), 0.7)[0] == pytest.approx(gain, abs=0.005)


def test_normal_scores_depend_on_ranks_only_and_equals_share_theirs() -> None:
    scores = normal_scores([3.0, -1e9, 5.0, 3.0])
    assert scores.tolist() == normal_scores([2.0, 1.0, 7.0, 2.0]).tolist()
    assert scores[0] == scores[3] == pytest.approx(0)
    assert scores[2] == -scores[1] == pytest.approx(NormalDist().inv_cdf(7 / 8))
    assert normal_scores([-np.inf, 0.0, 1.0]).tolist() == normal_scores([0.0, 1.0, 2.0]).tolist()


def test_positions_are_ranks_among_the_reference_and_equal_columns_are_left_out() -> None:
    reference = np.array([[1.0, 5.0, -np.inf], [2.0, 5.0, 0.0], [9.0, 5.0, 0.0], [9.0, 5.0, 1.0]])
    assert positions(reference, np.array([[0.0, 1.0, 9.0], [9.0, 2.0, 0.0], [5.0, 3.0, -np.inf]])).tolist() == [
        [-0.5, 0.5],
        [0.25, 0.0],
        [0.0, -0.375],
    ]
    assert positions(reference[:, :0], np.zeros((2, 0))).shape == (2, 0)
