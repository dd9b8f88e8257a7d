"""What a recipe trains with: its optimizer, and the precision that it computes in."""

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from nas.training.recipe import Recipe


def make_optimizer(recipe: Recipe, network: nn.Module) -> Optimizer:
    """Return the optimizer over a network's parameters, decaying only those of two or more dimensions."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in parameters if parameter.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=True)
    return AdamW(groups, lr=recipe.learning_rate, betas=(recipe.momentum, 0.999), fused=True)


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """Return the context that computes in the recipe's precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16")
