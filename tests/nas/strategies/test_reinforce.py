"""REINFORCE: gradients against PyTorch's, Adam against its formula, rewards, state, and that it learns."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_search import CHOICES, Fake, run_search
from pydantic import ValidationError

from nas import checkpoint
from nas.architecture import Architecture, Choice, Choices
from nas.evaluators.base import Evaluator
from nas.journal import MemoryJournal
from nas.objective import Objective
from nas.search import search
from nas.strategies.policies import Controller, Independent, Policy
from nas.strategies.random import Random
from nas.strategies.reinforce import Reinforce
from nas.trial import Proposal, Report, Score, Trial

WIDE = Choices([Choice(name, tuple("01234")) for name in "abcdef"])
UNEVEN = [3, 1, 4, 2]
POLICIES = ("lstm", "independent")


def made(answers: str) -> Architecture:
    return Architecture(dict(zip("abcdef", answers, strict=True)))


def done(number: int, answers: str, score: Score | None) -> Trial:
    return Trial(number, Proposal(made(answers)), Report({}, error="broke" if score is None else None), score)


def tell(strategy: Reinforce, outcomes: list[tuple[str, float]], first: int = 0) -> None:
    for number, (answers, reward) in enumerate(outcomes, first):
        strategy.tell(done(number, answers, Score(0.0, (reward,))))


def begun(seed: int = 0, **settings: Any) -> Reinforce:
    strategy = Reinforce(**settings).bind(WIDE)
    strategy.ask([], np.random.default_rng(seed))
    return strategy


def share(strategy: Reinforce, answers: str, draws: int = 200) -> float:
    """How often an option of `answers` is proposed."""
    drawn = [strategy.ask([], np.random.default_rng(seed)).architecture for seed in range(draws)]
    return float(np.mean([[one[name] == option for name, option in made(answers).items()] for one in drawn]))


def logits_of_pytorch(policy: Policy, parameters: dict[str, torch.Tensor], answers: list[int]) -> list[torch.Tensor]:
    if isinstance(policy, Independent):
        return list(parameters.values())
    size = parameters["start"].shape[0]
    cell = torch.nn.LSTMCell(size, size, dtype=torch.float64)
    order = [0, 1, 3, 2]  # ours: input, forget, output, content; PyTorch's: input, forget, content, output
    gates = torch.cat([parameters["gates"].reshape(2 * size, 4, size)[:, kind] for kind in order], dim=1)
    bias = torch.cat([parameters["gates_bias"].reshape(4, size)[kind] for kind in order])
    weights = {"weight_ih": gates[:size].T, "weight_hh": gates[size:].T, "bias_ih": bias, "bias_hh": torch.zeros_like(bias)}
    entry, state, found = parameters["start"], (torch.zeros(1, size, dtype=torch.float64),) * 2, []
    for position, answer in enumerate(answers):
        state = torch.func.functional_call(cell, weights, (entry[None], state))
        found.append(state[0][0] @ parameters[f"head_{position}"] + parameters[f"bias_{position}"])
        entry = parameters[f"embedding_{position}"][answer]
    return found


@pytest.mark.parametrize("kind", POLICIES)
@pytest.mark.parametrize(("advantage", "bonus"), [(1.0, 0.0), (0.0, 1.0), (-2.5, 0.7)])
def test_the_gradient_is_that_of_pytorch(kind: str, advantage: float, bonus: float) -> None:
    rng = np.random.default_rng(0)
    policy = Independent(UNEVEN, rng) if kind == "independent" else Controller(UNEVEN, 5, rng)
    policy.weights[:] = rng.standard_normal(len(policy.weights))
    answers = [2, 0, 1, 1]
    parameters = {name: torch.tensor(piece, requires_grad=True) for name, piece in policy.part.items()}
    logs = [torch.log_softmax(logits, 0) for logits in logits_of_pytorch(policy, parameters, answers)]
    entropy = -torch.stack([(log.exp() * log).sum() for log in logs]).sum()
    value = advantage * torch.stack([log[answer] for log, answer in zip(logs, answers, strict=True)]).sum() + bonus * entropy
    expected = torch.autograd.grad(value, list(parameters.values()), materialize_grads=True)
    gradient, found = policy.gradient(answers, advantage, bonus)
    assert found == pytest.approx(entropy.item() / 3), "one of the four choices is not open"
    for name, one in zip(policy.part, expected, strict=True):
        np.testing.assert_allclose(policy.pieces(gradient)[name], one.numpy(), rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("clip", [None, 0.5])
def test_an_update_is_a_step_of_adam_on_reward_less_baseline(clip: float | None) -> None:
    strategy = begun(policy="independent", learning_rate=0.05, entropy=0, clip=clip)
    assert strategy._learner is not None
    logits = strategy._learner.policy.weights.reshape(6, 5).copy()
    total = weight = distances = 0.0
    first = second = np.zeros((6, 5))
    for step, (answers, reward) in enumerate([("012340", 90.0), ("012341", 80.0), ("222222", 95.0), ("014444", 10.0)], 1):
        strategy.tell(done(step, answers, Score(0.0, (reward,))))
        total, weight = 0.9 * total + 0.1 * reward, 0.9 * weight + 0.1
        distances = 0.9 * distances + 0.1 * abs(reward - total / weight)
        taken = np.eye(5)[[int(answer) for answer in answers]]
        gradient = (reward - total / weight) * (taken - np.exp(logits) / np.exp(logits).sum(1, keepdims=True))
        if clip is not None:
            gradient *= min(1.0, clip * distances / weight / max(np.linalg.norm(gradient), 1e-300))
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        logits += 0.05 * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        np.testing.assert_allclose(strategy._learner.policy.weights.reshape(6, 5), logits, rtol=1e-9, atol=1e-12)
    assert strategy.telemetry()["baseline"][-1] == pytest.approx(total / weight)


def test_the_biases_of_the_answers_move_at_a_rate_of_their_own() -> None:
    strategy = begun(learning_rate=0.01, bias_rate=0.2, entropy=0)
    assert strategy._learner is not None
    policy = strategy._learner.policy
    before = policy.weights.copy()
    tell(strategy, [("012340", 1.0), ("222222", 5.0)])  # the first makes the baseline and teaches nothing
    step = (0.1 / (1 - 0.9**2)) / (0.001 / (1 - 0.999**2)) ** 0.5  # of Adam where only the second gradient is not 0
    for name, moved in policy.pieces(policy.weights - before).items():
        rate = 0.0 if name == "embedding_5" else 0.2 if name.startswith("bias_") else 0.01  # nobody reads the last answer
        assert np.abs(moved).max() == pytest.approx(rate * step, rel=1e-3), name


def test_independent_logits_have_one_rate() -> None:
    drawn = []
    for bias_rate in (0.01, 0.5):
        strategy = begun(policy="independent", learning_rate=0.01, bias_rate=bias_rate)
        tell(strategy, [("444444", 1.0), ("000000", 9.0)] * 5)
        assert strategy._learner is not None
        drawn.append(strategy._learner.policy.weights.tolist())
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("policy", POLICIES)
def test_what_earned_more_becomes_more_likely_and_what_earned_less_becomes_rare(policy: str) -> None:
    strategy = begun(policy=policy, entropy=0)
    assert abs(share(strategy, "000000") - 0.2) < 0.05
    tell(strategy, [("444444", 1.0), ("000000", 9.0)] * 20)
    assert share(strategy, "000000") > 0.4
    assert share(strategy, "444444") < 0.1


def test_the_entropy_bonus_keeps_the_policy_open_on_any_scale_of_rewards() -> None:
    outcomes = [("444444", 0.01), ("000000", 0.09)] * 40
    entropies = {}
    for scale in (1.0, 1000.0):
        for entropy in (0.0, 1.0):
            strategy = begun(policy="independent", entropy=entropy)
            tell(strategy, [(answers, scale * reward) for answers, reward in outcomes])
            entropies[scale, entropy] = strategy.telemetry()["entropy"][-1]
    assert entropies[1.0, 1.0] > entropies[1.0, 0.0] + 0.2
    assert entropies[1.0, 1.0] == pytest.approx(entropies[1000.0, 1.0], rel=1e-3)


def test_the_controller_knows_the_earlier_answers() -> None:
    """Two sequences that share no answer are both learned; independent choices would mix them."""
    policy = Controller([5] * 6, 16, np.random.default_rng(0))
    for _ in range(400):
        policy.weights += 0.1 * sum(policy.gradient([answer] * 6, 1.0, 0.0)[0] for answer in (0, 4))
    drawn = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        drawn.append(tuple(policy.walk(lambda _, probabilities, rng=rng: int(rng.choice(5, p=probabilities)))))
    assert drawn.count((0,) * 6) > 70
    assert drawn.count((4,) * 6) > 70


class Matches(Evaluator):
    """The share of choices that are answered with the option 4."""

    def evaluate(self, trial: Trial) -> Report:
        return Report({"accuracy": sum(option == "4" for option in trial.architecture.values()) / len(trial.architecture)})


@pytest.mark.parametrize("policy", POLICIES)
def test_it_learns_what_random_search_does_not(policy: str) -> None:
    means = []
    for strategy in (Reinforce(policy=policy), Random()):
        found = list(search(strategy.bind(WIDE), Matches(), Objective(), MemoryJournal(), trials=300, seed=1))
        means.append(np.mean([trial.score.values[0] for trial in found[-50:] if trial.score]))
    assert means[0] > 0.5 > 0.3 > means[1]


def test_what_failed_or_breaks_a_constraint_earns_the_lowest_reward_of_a_sound_one() -> None:
    lowest = begun()
    tell(lowest, [("012340", 5.0), ("111111", 7.0), ("222222", 5.0)])
    for score in (None, Score(-0.1, ()), Score(-0.1, (99.0,))):
        strategy = begun()
        strategy.tell(done(0, "333333", score))
        assert strategy.telemetry()["trial"] == [], "nothing to compare with yet"
        tell(strategy, [("012340", 5.0), ("111111", 7.0)])
        strategy.tell(done(2, "222222", score))
        assert share(strategy, "222222") == share(lowest, "222222")
        assert strategy.telemetry() == lowest.telemetry()


def test_a_batch_is_one_update() -> None:
    strategy = begun(batch=3)
    before = share(strategy, "000000")
    tell(strategy, [("444444", 1.0), ("000000", 9.0)])
    assert share(strategy, "000000") == before
    tell(strategy, [("000000", 9.0), ("444444", 1.0), ("000000", 9.0), ("000000", 9.0)], 2)
    assert share(strategy, "000000") != before
    assert strategy.telemetry()["trial"] == [2, 5]
    assert {len(curve) for curve in strategy.telemetry().values()} == {2}
    assert strategy.telemetry()["entropy"][0] == pytest.approx(np.log(5), abs=1e-2)


@pytest.mark.parametrize("policy", POLICIES)
def test_its_state_survives_a_file_in_the_middle_of_a_batch(tmp_path: Path, policy: str) -> None:
    outcomes = [("444444", 1.0), ("000000", 9.0), ("012340", 4.0), ("111111", 3.0), ("000001", 8.0)]
    whole, cut = begun(policy=policy, batch=2), begun(policy=policy, batch=2)
    tell(whole, outcomes)
    tell(cut, outcomes[:3])
    state = cut.state_dict()
    tell(cut, outcomes[3:])  # what is saved must not change with the strategy it came from
    checkpoint.save(tmp_path / "state.pt", state)
    resumed = Reinforce(policy=policy, batch=2).bind(WIDE)
    resumed.load_state_dict(checkpoint.load(tmp_path / "state.pt"))
    tell(resumed, outcomes[3:], 3)
    assert resumed._learner is not None
    assert whole._learner is not None
    assert resumed._learner.policy.weights.tobytes() == whole._learner.policy.weights.tobytes()
    assert resumed.telemetry() == whole.telemetry()
    untouched = Reinforce(policy=policy).bind(WIDE)
    untouched.load_state_dict(Reinforce(policy=policy).bind(WIDE).state_dict())
    assert untouched.ask([], np.random.default_rng(0)) == Reinforce(policy=policy).bind(WIDE).ask([], np.random.default_rng(0))


def test_it_learns_from_trials_that_others_proposed_before_it_was_asked() -> None:
    outcomes = [("444444", 1.0), ("000000", 9.0)] * 20
    early, late = Reinforce(batch=40).bind(WIDE), begun(batch=40)
    tell(early, outcomes)
    assert early.telemetry() == {}
    early.ask([], np.random.default_rng(0))
    tell(late, outcomes)
    assert early.telemetry()["trial"] == [39]
    assert early.telemetry() == late.telemetry()
    assert share(early, "000000") == share(late, "000000")


def test_the_conclusion_is_the_most_likely_then_draws_all_of_different_functions() -> None:
    strategy = begun(policy="independent", entropy=0)
    tell(strategy, [("444444", 1.0), ("012340", 9.0)] * 15)
    found = strategy.conclude([], 8, np.random.default_rng(0))
    assert found[0] == made("012340")
    assert len(set(found)) == 8
    assert found == strategy.conclude([], 8, np.random.default_rng(0))
    strategy.bind(WIDE, canonical=lambda architecture: architecture["a"])
    assert len({one["a"] for one in strategy.conclude([], 8, np.random.default_rng(0))}) <= 5
    assert len(strategy.conclude([], 1, np.random.default_rng(0))) == 1
    history = [done(0, "444444", Score(0.0, (1.0,))), done(1, "012340", Score(0.0, (2.0,)))]
    assert Reinforce().bind(WIDE).conclude(history, 1, np.random.default_rng(0)) == [made("012340")], "nothing learned: the best"


def test_the_first_generator_decides_the_first_weights() -> None:
    one, same, other = begun(0), begun(0), begun(1)
    assert share(one, "000000") == share(same, "000000")
    assert one._learner is not None
    assert other._learner is not None
    assert one._learner.policy.weights.tolist() != other._learner.policy.weights.tolist()


def test_every_space_can_be_searched() -> None:
    for policy in POLICIES:
        for choices in (Choices([Choice("a", ("x",))]), Choices([]), CHOICES):
            assert len(run_search(Reinforce(policy=policy).bind(choices), Fake(trouble=True), MemoryJournal(), 5)) == 5


def test_a_search_without_snapshots_needs_no_pytorch() -> None:
    code = "import sys, numpy; from nas.architecture import *; from nas.strategies.reinforce import *; from nas.trial import *; "
    code += "s = Reinforce().bind(Choices([Choice('a', ('x', 'y'))])); p = s.ask([], numpy.random.default_rng(0)); "
    code += "[s.tell(Trial(n, p, Report({}), Score(0.0, (n,)))) for n in range(3)]; print('torch' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=Path(__file__).parents[3], timeout=60
    )
    assert run.stdout.strip() == "False"


@pytest.mark.parametrize(
    "settings", [{"policy": "gru"}, {"learning_rate": 0}, {"bias_rate": 0}, {"baseline_decay": 1}, {"batch": 0}, {"hidden": 0}, {"clip": 0}]
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Reinforce(**settings)
