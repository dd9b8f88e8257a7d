"""What holds for every test."""

import hypothesis
import pytest


@pytest.fixture(scope="session", autouse=True)
def _leave_the_other_cores_alone() -> None:
    """Compute with one thread in this process: tests run side by side, and threads that wait for each other take all the time there is.

    Processes that a test starts are as the product has them.
    """
    import torch

    torch.set_num_threads(1)


# Machines that test are shared, and one pause of theirs is no fault of what is tested.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")
