import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdprobe.config import override, parse, quoted, write_yaml
from kdprobe.distillers import option_types
from kdprobe.errors import ConfigError
from kdprobe.formats.yamls import read_yaml
from kdprobe.recipe import read_recipe, recipes

MINIMAL = {"data": {"spec": "digits"}, "model": {"name": "resnet8"}}


def checked(data):
    return parse(data, option_types(), source="test.yaml")


def test_defaults_are_filled_in_and_survive_yaml():
    config = checked(MINIMAL)
    again = checked(read_yaml(write_yaml(config), source="again"))
    assert again == config
    assert config.method == {"name": "plain"}


def test_method_options_are_resolved():
    config = checked({**MINIMAL, "method": {"name": "dropkd", "feature_rate_student": 0.3}})
    assert config.method["feature_rate_student"] == 0.3
    assert config.method["feature_rate_teacher"] == 0.5


def test_a_method_may_be_a_bare_name():
    assert checked({**MINIMAL, "method": "kd"}).method["temperature"] == 4.0


def test_every_mistake_is_told_at_once_with_its_path():
    data = {
        "data": {"spec": "digits", "imagesize": 32},
        "model": {"name": "resnet8"},
        "method": {"name": "dropkd", "feature_rate_student": 1.0, "feature_rate_techer": 0.5},
        "training": {"epochs": 0, "optimizer": {"lr": "fast"}},
    }
    with pytest.raises(ConfigError) as caught:
        checked(data)
    message = str(caught.value)
    assert message.startswith("test.yaml has 5 mistakes: ")
    assert "data.imagesize: unknown key; did you mean 'image_size'?" in message
    assert "method.feature_rate_student: input should be less than 1, but is 1.0" in message
    assert "method.feature_rate_techer: unknown key; did you mean 'feature_rate_teacher'" in message
    assert "training.epochs: input should be greater than or equal to 1, but is 0" in message
    assert "training.optimizer.lr: " in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"training": {"optimizer": {"nesterov": True, "momentum": 0}}},
            r"optimizer\.nesterov: needs a momentum above 0",
        ),
        (
            {"training": {"optimizer": {"betas": [0.9, 1]}}},
            r"optimizer\.betas\.1: input should be less than 1, but is 1",
        ),
        ({"training": {"optimizer": {"betas": [-0.1, 0.9]}}}, r"optimizer\.betas\.0: input should be greater than or"),
        ({"seed": 2**64}, r"seed: input should be less than 18446744073709551616"),
    ],
)
def test_what_the_optimizer_or_the_generator_cannot_take_is_told(values, message):
    with pytest.raises(ConfigError, match=message):
        checked({**MINIMAL, **values})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"training": {"freeze": "all"}},
            r"a mistake: training\.freeze: must be a list, such as \[all\], but is 'all'$",
        ),
        ({"model": {"name": "resnet8", "stages": "layer1"}}, r"model\.stages: must be a list, such as \[layer1\]"),
        ({"model": {"name": "resnet8", "std": [0.5, 0, 0.5]}}, r"a mistake: model\.std\.1: input should be greater"),
        ({"teacher": {"path": "a", "image_size": 0}}, r"a mistake: teacher\.image_size: input should be greater"),
        ({"teacher": {"path": "a", "sise": 3}}, r"a mistake: teacher\.sise: unknown key"),
        (
            {"teacher": {"path": "a", "store": "b", "store_outputs": ["bogus"]}},
            r"a mistake: teacher\.store_outputs\.0: must be logits, pooled, tokens, qkv, maps or preacts, or",
        ),
    ],
)
def test_a_mistake_is_said_once_in_words_and_by_the_key_that_was_written(values, message):
    with pytest.raises(ConfigError, match=message):
        checked({**MINIMAL, **values})


def test_a_missing_section_is_named():
    with pytest.raises(ConfigError, match=r"has a mistake: model: is needed"):
        checked({"data": {"spec": "digits"}})


def test_an_unknown_method_lists_near_matches():
    with pytest.raises(ConfigError, match=r"method\.name: no method 'dropdk'; did you mean 'dropkd'"):
        checked({**MINIMAL, "method": {"name": "dropdk"}})


def test_a_method_needs_a_name():
    with pytest.raises(ConfigError, match=r"method\.name: a method's name is needed; known: "):
        checked({**MINIMAL, "method": {"temperature": 4}})


def test_a_list_is_no_configuration():
    with pytest.raises(ConfigError, match=r"test\.yaml must be a mapping of sections, but is list"):
        checked([1])


def test_yaml_numbers_and_words_are_those_of_yaml_1_2():
    text = "{a: 1e-3, b: 1E3, c: no, d: 0012, e: 1.5, f: true, g: .5, h: -3, i: '1e-3', j: 1_000}"
    expected = {
        "a": 1e-3,
        "b": 1e3,
        "c": "no",
        "d": 12,
        "e": 1.5,
        "f": True,
        "g": 0.5,
        "h": -3,
        "i": "1e-3",
        "j": "1_000",
    }
    read = read_yaml(text, source="x")
    assert read == expected
    assert [type(value) for value in read.values()] == [type(value) for value in expected.values()]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_float_is_read_as_that_float(value):
    assert read_yaml(repr(value), source="x") == value


def test_dates_are_words_as_in_yaml_1_2():
    assert read_yaml("[2024-01-01, 2024-13-45]", source="x") == ["2024-01-01", "2024-13-45"]
    with pytest.raises(ConfigError, match=r"seed: input should be a valid integer, .*, but is '2024-13-45'"):
        checked(override(MINIMAL, ["seed=2024-13-45"]))


def test_an_unknown_key_of_a_section_that_may_be_left_out():
    data = {**MINIMAL, "teacher": "t", "probe": {"every": 1, "evry": 2}}
    with pytest.raises(ConfigError, match=r"probe\.evry: unknown key; did you mean 'every'"):
        checked(data)


def test_broken_yaml_is_told_with_its_line():
    with pytest.raises(ConfigError, match=r"x\.yaml is not YAML at line 2"):
        read_yaml("a: 1\nb: [1", source="x.yaml")


def test_override_changes_a_copy():
    before = {"training": {"epochs": 3}}
    after = override(before, ["training.epochs=5", "method.name=kd", "training.optimizer.lr=1e-2"])
    assert after == {"training": {"epochs": 5, "optimizer": {"lr": 0.01}}, "method": {"name": "kd"}}
    assert before == {"training": {"epochs": 3}}


@pytest.mark.parametrize("text", ["folder:my set #1", "a: b", "'", '"', "\\n é 😀", "1e3", "[x"])
def test_a_quoted_text_is_that_text(text):
    assert override({}, [f"data.spec={quoted(text)}"]) == {"data": {"spec": text}}


def test_override_needs_an_equals_sign():
    with pytest.raises(ConfigError, match=r"--set takes KEY\.KEY=VALUE, but got 'training\.epochs'"):
        override({}, ["training.epochs"])


def test_override_does_not_run_through_a_value():
    with pytest.raises(ConfigError, match=r"'epochs' is a value, not a section"):
        override({"training": {"epochs": 3}}, ["training.epochs.more=1"])


@pytest.mark.parametrize("name", sorted(recipes()))
def test_shipped_recipes_are_whole(name):
    assert parse(read_recipe(name), option_types(), source=name).training.epochs >= 1


def test_an_unknown_recipe_lists_near_matches():
    with pytest.raises(ConfigError, match=r"no recipe 'digits/resnet8-dk'; did you mean 'digits/resnet8-kd'"):
        read_recipe("digits/resnet8-dk")


def test_a_missing_configuration_file_is_named():
    with pytest.raises(ConfigError, match=r"there is no configuration file nowhere\.yaml"):
        read_recipe("nowhere.yaml")


def test_a_configuration_file_must_be_a_mapping(tmp_path):
    path = tmp_path / "list.yaml"
    path.write_text("- 1\n")
    with pytest.raises(ConfigError, match=r"list\.yaml must be a mapping of sections, but is list"):
        read_recipe(str(path))


def test_a_configuration_file_must_be_utf_8(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes("model: {name: é}".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml cannot be read as UTF-8 text"):
        read_recipe(str(path))


@pytest.mark.parametrize(
    ("assignment", "path"),
    [
        ("training.epochs=true", "training.epochs"),
        ("training.optimizer.lr=true", "training.optimizer.lr"),
        ("training.optimizer.betas=[true, 0.9]", "training.optimizer.betas"),
        ("data.per_class=true", "data.per_class"),
        ("seed=false", "seed"),
        ("method.temperature=true", "method.temperature"),
    ],
)
def test_booleans_are_no_numbers(assignment, path):
    values = {"data": {"spec": "digits"}, "model": {"name": "resnet8"}, "method": {"name": "kd"}, "teacher": "t"}
    with pytest.raises(ConfigError, match=rf"{re.escape(path)}: must not be true or false, but is"):
        parse(override(values, [assignment]), option_types())


def test_booleans_stay_where_they_belong():
    values = {"data": {"spec": "digits", "augment": {"flip": False}}, "model": {"name": "n", "args": {"bias": True}}}
    chosen = parse({**values, "training": {"channels_last": True}}, option_types())
    assert (chosen.data.augment.flip, chosen.training.channels_last, chosen.model.args) == (False, True, {"bias": True})
