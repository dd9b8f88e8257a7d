"""Endless batches: a function of their number, whole epochs, and two parts of the data that never meet."""

import pytest
import torch
from small_images import CPU, random_examples, task_of

from nas.training.loop import Examples
from nas.training.recipe import Augmentation
from nas.training.stream import Stream, divide

EXAMPLES = Examples(torch.arange(23)[:, None], torch.arange(23))


def test_batches_depend_on_their_number_alone() -> None:
    part = torch.arange(3, 23)
    there = [Stream(EXAMPLES, part, 6, 1).at(number)[1].tolist() for number in range(9)]
    stream = Stream(EXAMPLES, part, 6, 1)
    assert [stream.at(number)[1].tolist() for number in (8, 0, 3, 4)] == [there[number] for number in (8, 0, 3, 4)]
    assert there != [Stream(EXAMPLES, part, 6, 2).at(number)[1].tolist() for number in range(9)]


def test_an_epoch_holds_an_example_once_at_most_and_nothing_of_the_other_part() -> None:
    stream = Stream(EXAMPLES, torch.arange(3, 23), 6, 1)
    epochs = [[index for number in range(3 * epoch, 3 * epoch + 3) for index in stream.at(number)[1].tolist()] for epoch in range(4)]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) == 18
        assert min(epoch) >= 3
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_a_part_smaller_than_a_batch_is_one_batch() -> None:
    assert sorted(Stream(EXAMPLES, torch.arange(4), 64, 0).at(7)[1].tolist()) == [0, 1, 2, 3]


def test_augmented_inputs_belong_to_the_same_targets_and_repeat() -> None:
    examples = random_examples(task_of(), 20)
    stream = Stream(examples, torch.arange(20), 8, 0)
    plain, (changed, targets) = stream.at(3), stream.augmented(3, Augmentation(shift=2))
    assert torch.equal(targets, plain[1])
    assert not torch.equal(changed, plain[0])
    assert torch.equal(stream.augmented(3, Augmentation(shift=2))[0], changed)


def test_a_sample_is_the_same_whatever_was_read() -> None:
    stream = Stream(EXAMPLES, torch.arange(3, 23), 6, 1)
    stream.at(5)
    assert [len(batch) for batch in stream.sample(2)] == [6, 6]
    assert torch.cat(stream.sample(9)).flatten().tolist() == list(range(3, 23))


def test_the_parts_do_not_meet_and_the_seed_decides_them() -> None:
    first, second = divide(101, 0.3, 5, CPU)
    assert (len(first), len(second)) == (71, 30)
    assert sorted(first.tolist() + second.tolist()) == list(range(101))
    assert torch.equal(divide(101, 0.3, 5, CPU)[0], first)
    assert not torch.equal(divide(101, 0.3, 6, CPU)[0], first)
    with pytest.raises(ValueError, match=r"10 examples and a share of 0\.1 make parts of 9 and 1: each needs two or more"):
        divide(10, 0.1, 0, CPU)
