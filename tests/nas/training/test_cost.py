"""Cost by structure: counted by hand, without memory, and without changing the network."""

import pytest
import torch
from small_images import task_of
from torch import nn

from nas.training.cost import cost


@pytest.mark.parametrize("mode", [True, False])
def test_parameters_and_operations_are_counted(mode: bool) -> None:
    task = task_of((6, 5, 3), classes=4)
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), task.head(8)).train(mode)
    found = cost(network, task)
    assert found == {"parameters": 3 * 8 * 9 + 16 + 8 * 4 + 4, "flops": 2 * (6 * 5 * 3 * 8 * 9 + 8 * 4)}
    assert all(type(value) is float for value in found.values())
    assert network.training is mode
    assert all(weight.device.type == "meta" for weight in network.parameters())
