"""What the fork server of `killing` imports: everything that a run would otherwise spend seconds on, loaded and used once."""

import gc
import importlib
import threading

import cmaes
import killed_searches
import killed_stages
import killed_trainings
import killing
import numpy as np
import optuna
import torch
from small_images import task_of

from nas.fork_server import imported_late
from nas.load import load, names
from nas.process_start import pin_threads
from nas.spaces.chain import Chain

__all__ = ["cmaes", "killed_searches", "killed_stages", "killed_trainings", "killing", "optuna"]

pin_threads()
for room in ("strategies", "evaluators", "spaces"):
    for name in names(room):
        load(room, name)
for name in imported_late():
    importlib.import_module(name)
task = task_of()
task.load()
network = Chain().build(Chain().choices(task).sample(np.random.default_rng(0)), task)
torch.optim.SGD(network.parameters(), 0.1)
assert threading.active_count() == 1, "a server with threads cannot be forked safely"
gc.freeze()  # a child's collector would otherwise touch, and so copy, every page
