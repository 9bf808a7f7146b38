import pytest
from pydantic import ValidationError
from snnc.errors import InvalidSetting
from snnc.learn.curriculum import Curriculum, factor
from snnc.learn.objectives import Mart, Pgd, Rfgsm, Standard, Trades, scaled

ADVERSARIAL = [
    Pgd(epsilon=0.5, steps=3),
    Trades(epsilon=0.5, steps=3, beta=2.0),
    Mart(epsilon=0.5, steps=3, beta=4.0),
    Rfgsm(epsilon=0.5, beta=2.0),
]


def test_epsilon_grows_in_equal_steps_and_then_stays_whole():
    curriculum = Curriculum(start=0.25, epochs=3)
    assert [factor(curriculum, epoch) for epoch in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


def test_no_epoch_has_more_than_the_whole_epsilon_or_none():
    curriculum = Curriculum(start=0.1, epochs=7)
    factors = [factor(curriculum, epoch) for epoch in range(20)]
    assert factors == sorted(factors)
    assert factors[0] == 0.1 and factors[6] < factors[7] == 1


def test_a_start_of_one_is_no_curriculum():
    assert {factor(Curriculum(start=1.0, epochs=4), epoch) for epoch in range(6)} == {1.0}


@pytest.mark.parametrize("wrong", [{"start": 0.0}, {"start": 1.5}, {"start": -1.0}, {"epochs": 0}])
def test_a_curriculum_without_a_beginning_is_refused(wrong):
    with pytest.raises(ValidationError):
        Curriculum(**{"start": 0.5, "epochs": 2, **wrong})


@pytest.mark.parametrize("objective", ADVERSARIAL, ids=lambda objective: objective.kind)
def test_scaling_changes_epsilon_and_nothing_else(objective):
    half = scaled(objective, 0.5)
    assert half.epsilon == 0.25 and type(half) is type(objective)
    assert half.model_copy(update={"epsilon": 0.5}) == objective
    assert scaled(objective, 1.0) == objective


def test_an_objective_without_an_adversary_is_not_scaled():
    assert scaled(Standard(), 0.5) == Standard()


@pytest.mark.parametrize("wrong", [0.0, -0.5, 1.5, float("nan")])
def test_a_factor_outside_its_range_is_refused(wrong):
    with pytest.raises(InvalidSetting, match="epsilon cannot be scaled"):
        scaled(ADVERSARIAL[0], wrong)
