"""What holds for every test."""

from pathlib import Path

import hypothesis
import pytest

LONGEST = (
    "flows/test_deployments.py",
    "flows/test_end_to_end.py",
    "flows/test_pipeline.py",
    "flows/test_clone.py",
    "kills/test_pipeline.py",
    "kills/test_searches.py",
    "nas/engines/test_clusters.py",
    "flows/test_search_on_cluster.py",
    "faults/test_faults.py",
    "flows/test_stopped_runs.py",
    "nas/testing/test_strangers.py",
    "nas/spaces/test_space_contract.py",
    "nas/test_workers.py",
)
"""Files of tests that take longest, these first: started last, one of them would run alone in the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files."""
    here = Path(__file__).parent
    order = {here / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def _leave_the_other_cores_alone() -> None:
    """Compute with one thread in this process: tests run side by side, and threads that wait for each other take all the time there is.

    Processes that a test starts are as the product has them.
    """
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _dvc_prints_where_all_tests_do() -> None:
    """Import DVC, which prints to whatever standard output is then, outside any test that captures its own and closes it."""
    import dvc.logger  # noqa: F401


# Machines that test are shared, and one pause of theirs is no fault of what is tested.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")
