"""What there is by name, and what stands in it."""

import pytest
from click.testing import CliRunner

from kdprobe.cli.lists.names import list_recipes
from kdprobe.config import parse
from kdprobe.distillers import option_types
from kdprobe.errors import ConfigError
from kdprobe.recipe import read_recipe, recipes


def shown(*words):
    return CliRunner().invoke(list_recipes, words, catch_exceptions=False).output


def test_a_recipe_is_shown_so_that_it_can_be_changed_and_trained(tmp_path):
    for name in recipes():
        (tmp_path / "mine.yaml").write_text(shown(name), encoding="utf-8")
        assert read_recipe(str(tmp_path / "mine.yaml")) == read_recipe(name)
    parse(read_recipe(str(tmp_path / "mine.yaml")), option_types(), source="mine")


def test_all_are_listed_and_near_ones_suggested():
    assert {line.split()[0] for line in shown().splitlines()} == set(recipes())
    with pytest.raises(ConfigError, match=r"no recipe 'digits/resnet8-kdd'; did you mean 'digits/resnet8-kd'"):
        shown("digits/resnet8-kdd")
