"""Ranges for tuning: where their values lie, and that every method's own are values that it takes."""

import pytest

from kdprobe.distillers import DISTILLERS
from kdprobe.distillers.search import Choice, LogUniform, Uniform, around_weight
from kdprobe.errors import ConfigError

RANGES = [(name, option) for name, method in DISTILLERS.items() for option in method.search]


def test_a_point_stands_for_a_value():
    assert Uniform(2, 6).at(0.25) == 3
    assert LogUniform(1, 100).at(0.5) == pytest.approx(10)
    assert [Choice(("a", "b", "c")).at(point) for point in (0, 0.34, 0.999)] == ["a", "b", "c"]


def test_ranges_that_hold_nothing_are_refused():
    with pytest.raises(ValueError, match="a range goes from low to high, but got 3 to 3"):
        Uniform(3, 3)
    with pytest.raises(ValueError, match="a range goes from low to high, but got 3 to 1"):
        LogUniform(3, 1)
    with pytest.raises(ValueError, match="a range of factors begins above 0, but got 0"):
        LogUniform(0, 1)
    with pytest.raises(ValueError, match=r"a choice takes at least 2 values, but got \(1,\)"):
        Choice((1,))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"kd_weight": (0.03, 2.7)}, r"Own.search\['kd_weight'\] must be a Uniform, LogUniform or Choice of kdprobe"),
        ({"weight": Uniform(0, 1)}, "Own.search names 'weight', which is no option of KDOptions"),
    ],
)
def test_what_a_method_cannot_be_tuned_by_is_refused_where_it_is_written(found, message):
    with pytest.raises(ConfigError, match=message):
        type("Own", (DISTILLERS["kd"],), {"search": found})


def test_a_published_weight_lies_in_the_range_around_it():
    assert around_weight(30).low == 1
    assert around_weight(30).high == 90


@pytest.mark.parametrize(("name", "option"), RANGES)
def test_the_default_lies_in_the_range_and_the_method_takes_all_of_it(name, option):
    method = DISTILLERS[name]
    values = method.search[option]
    default = getattr(method.Options(), option)
    assert default in values.values if isinstance(values, Choice) else values.low <= default <= values.high
    for point in (0, 0.5, 0.999999):
        method.Options.model_validate({option: values.at(point)})


@pytest.mark.parametrize("name", [name for name in DISTILLERS if name != "plain"])
def test_every_method_says_where_its_weights_come_from_and_what_to_tune(name):
    assert DISTILLERS[name].source
    assert DISTILLERS[name].search
