"""The trials of every method: the published setting first, then one sequence of points for all."""

import numpy as np
import pytest
from scipy.stats.qmc import discrepancy

from kdprobe.config import ScheduleConfig, parse
from kdprobe.distillers import DISTILLERS, KNOWN_METHODS, option_types
from kdprobe.distillers.search import Uniform
from kdprobe.errors import ConfigError
from kdprobe.recipe import read_recipe
from kdprobe.sweeps.cells import with_values
from kdprobe.tuning.contenders import contender, contenders, shared_config
from kdprobe.tuning.plan import DIMENSIONS, RATE, Contender, Plan, points, rates_around, shortened

RECIPE = "digits/resnet8-kd"


def plan(*names, n_trials=4, **options):
    config = shared_config(RECIPE, options.pop("assignments", ()), teacher="somewhere")
    return Plan(contenders(RECIPE, names), config, n_trials=n_trials, n_seeds=2, **options)


def test_more_points_go_on_with_the_same_sequence():
    longest = points(32)
    for count in range(33):
        np.testing.assert_array_equal(points(count), longest[:count])
    assert longest.shape == (32, DIMENSIONS)
    assert 0 <= longest.min() <= longest.max() < 1
    # each half, quarter, ... of every dimension gets its share
    assert all(np.bincount(np.int64(32 * column), minlength=32).max() == 1 for column in longest.T)
    random = np.random.default_rng(0).random((32, DIMENSIONS))
    assert discrepancy(longest) < discrepancy(random)


def test_trial_0_is_the_published_setting_and_all_trials_share_their_rates():
    found = {one.name: one.settings(6, 0.1) for one in contenders(RECIPE, ["plain", "kd", "dkd"])}
    assert found["plain"][0] == {RATE: 0.1}
    assert found["kd"][0] == {RATE: 0.1, "method.kd_weight": 0.9, "method.temperature": 4.0}
    assert found["dkd"][0]["method.warmup_epochs"] == 20
    rates = [settings[RATE] for settings in found["plain"]]
    assert all([settings[RATE] for settings in trials] == rates for trials in found.values())
    span = rates_around(0.1)
    assert (span.low, span.high) == pytest.approx((0.01, 0.3))
    assert all(span.low <= rate <= span.high for rate in rates)
    assert {settings["method.warmup_epochs"] for settings in found["dkd"][1:]} == {0, 20}


@pytest.mark.parametrize("name", DISTILLERS)
def test_all_trials_of_every_method_are_configurations_of_their_own(name):
    one = contender(RECIPE, name)
    base = plan(name).trial_config.model_dump(mode="json")
    cells = [one.cell(settings, 0) for settings in one.settings(9, 0.1)]
    configs = [parse(with_values(base, cell), option_types()) for cell in cells]
    assert len({config.model_dump_json() for config in configs}) == 9
    assert all(config.method["name"] == name for config in configs)
    assert all((config.teacher is None) != KNOWN_METHODS[name].uses_teacher for config in configs)
    defaults = KNOWN_METHODS[name].Options().model_dump(mode="json")
    assert configs[0].method == {"name": name, **defaults}
    assert configs[0].training.optimizer == plan(name).config.training.optimizer


def test_a_recipe_gives_published_options_and_variants(tmp_path):
    recipe = tmp_path / "r.yaml"
    methods = "methods: {kd: {temperature: 2.0, ce_weight: 0.5}, hot: {name: kd, temperature: 9.0}}\n"
    recipe.write_text("data: {spec: digits}\nmodel: {name: resnet8}\n" + methods)
    kd, hot = contenders(str(recipe), ["kd", "hot"])
    assert kd.settings(2, 0.1)[0] == {RATE: 0.1, "method.kd_weight": 0.9, "method.temperature": 2.0}
    assert kd.cell({}, 3) == {"method.name": "kd", "method.ce_weight": 0.5, "seed": 3}
    assert hot.cell({}, 0) == {"method.name": "kd", "method.temperature": 9.0, "seed": 0}
    # what a variant fixes is not tuned, and the rest has the same points
    (one, other) = (each.settings(3, 0.1)[2] for each in (kd, hot))
    assert "method.temperature" in one.keys() - other.keys()
    assert one["method.kd_weight"] == other["method.kd_weight"]


def test_a_weight_of_0_is_not_tuned(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("data: {spec: digits}\nmodel: {name: resnet8}\nmethods: {srd: {kd_weight: 0}}\n")
    (srd,) = contenders(str(recipe), ["srd"])
    assert [sorted(settings) for settings in srd.settings(3, 0.1)] == [["method.weight", RATE]] * 3
    assert srd.cell({}, 0) == {"method.name": "srd", "method.kd_weight": 0.0, "seed": 0}


def test_options_that_make_no_difference_are_not_tuned(tmp_path):
    recipe = tmp_path / "r.yaml"
    methods = "methods: {cc: {}, next: {name: cc, form: adjacent}}\n"
    recipe.write_text("data: {spec: digits}\nmodel: {name: resnet8}\n" + methods)
    kernel, adjacent = contenders(str(recipe), ["cc", "next"])
    tuned = [set(each.settings(3, 0.1)[trial]) - {RATE} for each in (kernel, adjacent) for trial in (0, 2)]
    assert tuned == [{"method.kernel_weight", "method.gamma"}] * 2 + [{"method.adjacent_weight"}] * 2
    assert adjacent.settings(1, 0.1)[0]["method.adjacent_weight"] == 0.02


def test_trials_are_judged_on_held_out_images_and_finals_once():
    found = plan("plain", holdout=0.25, trial_epochs=0.5, assignments=["training.epochs=3"])
    trials, finals = found.trial_config, found.final_config
    assert (trials.data.holdout, trials.training.epochs, trials.training.evaluate) == (0.25, 2, "end")
    assert (finals.data.holdout, finals.training.epochs, finals.training.evaluate) == (0.0, 3, "end")
    steps = ScheduleConfig(name="step", milestones=(150, 180), warmup_epochs=5)
    assert shortened(steps, 0.1) == ScheduleConfig(name="step", milestones=(15, 18), warmup_epochs=0.5)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["kd", "plain", "kd"], "--methods names 'kd' twice"),
        (["dk"], "with method dk has a mistake: method.name: no method 'dk'; did you mean"),
    ],
)
def test_methods_that_cannot_take_part(names, message):
    with pytest.raises(ConfigError, match=message):
        contenders(RECIPE, names)


@pytest.mark.parametrize("key", ["method.kd_weight", "method", "seed", "data.holdout", "training.evaluate"])
def test_what_a_comparison_sets_itself_cannot_be_set(key):
    with pytest.raises(
        ConfigError, match=f"--set {key}=1: a comparison sets .* itself; (give|every training is judged once)"
    ):
        shared_config(RECIPE, [f"{key}=1"])


def test_too_many_options_are_refused():
    many = Contender("m", "m", search={f"o{n}": Uniform(0, 1) for n in range(DIMENSIONS)})
    with pytest.raises(ConfigError, match="m asks for 16 options to be tuned, but at most 15 can be"):
        many.settings(2, 0.1)


def test_a_recipe_without_a_section_for_methods_has_their_defaults():
    assert "methods" not in read_recipe(RECIPE)
    assert contender(RECIPE, "fitnet").fixed == {}
