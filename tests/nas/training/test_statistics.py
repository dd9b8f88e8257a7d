"""Statistics of normalisation: recomputed they are plain averages, and kept they come back bit for bit."""

import pytest
import torch
from torch import nn

from nas.training.statistics import kept, recalibrate


def test_recomputed_statistics_are_the_averages_over_batches_in_the_layers_that_run() -> None:
    torch.manual_seed(0)
    first, idle = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    network = nn.Sequential(first)
    network.add_module("idle", nn.ModuleList([idle]))
    network.forward = first.forward  # type: ignore[method-assign]
    network.eval()
    network(torch.randn(4, 3, 2, 2))
    batches = [torch.randn(8, 3, 4, 4) * 5 + number for number in range(3)]
    recalibrate(network, batches)
    torch.testing.assert_close(first.running_mean, torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0))
    torch.testing.assert_close(first.running_var, torch.stack([batch.var((0, 2, 3)) for batch in batches]).mean(0))
    assert idle.num_batches_tracked is not None
    assert int(idle.num_batches_tracked) == 0
    assert first.momentum == 0.1
    assert not network.training
    recalibrate(network, [])
    assert float(first.running_mean.abs().sum()) > 0, "without batches the statistics stay"  # type: ignore[union-attr]


def test_values_come_back_after_an_error_too() -> None:
    tensors = [torch.randn(3), torch.tensor(7), torch.full((2,), float("nan"))]
    before = [tensor.clone() for tensor in tensors]
    with pytest.raises(RuntimeError, match="halfway"):
        _spoil(tensors)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(tensors[:2], before[:2], strict=True))
    assert tensors[2].isnan().all()


def _spoil(tensors: list[torch.Tensor]) -> None:
    with kept(tensors):
        for tensor in tensors:
            tensor.zero_()
        raise RuntimeError("halfway")
