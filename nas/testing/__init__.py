"""The contract of every strategy, space, task and evaluator as classes to subclass: pytest then holds a new one to all of it.

    class TestClimber(StrategyContract):
        def make(self) -> Climber:
            return Climber(beginning=4)

Optuna ships the tests of its samplers in this way (optuna.testing, 2023).
"""

from typing import TYPE_CHECKING, Any

try:
    import pytest
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("nas.testing runs with pytest, which is not installed: pip install nasflow[test]", name="pytest") from error

if TYPE_CHECKING:
    from nas.testing.evaluator import EvaluatorContract
    from nas.testing.space import SpaceContract
    from nas.testing.strategy import StrategyContract
    from nas.testing.task import TaskContract

__all__ = ["EvaluatorContract", "SpaceContract", "StrategyContract", "TaskContract"]

# Before they are imported, or a broken rule is shown without the values that broke it.
pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in ("contract", "doubles", "evaluator", "space", "strategy", "task")))


def __getattr__(name: str) -> Any:
    """Import a contract when it is asked for: that of strategies need not wait for ONNX Runtime."""
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"nas.testing has no {name}: it has {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{name.removesuffix('Contract').lower()}"), name)
