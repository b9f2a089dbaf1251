import pytest
import timm

from kdprobe.config import parse
from kdprobe.distillers import DISTILLERS, option_types
from kdprobe.errors import ConfigError
from kdprobe.models.cifar import CIFAR_NAMES
from kdprobe.recipe import configure, read_recipe, recipes


@pytest.mark.parametrize("name", sorted(recipes()))
def test_takes_every_method(name):
    configs = [parse(read_recipe(name, method=method), option_types(), source=name) for method in DISTILLERS]
    assert [config.method["name"] for config in configs] == list(DISTILLERS)
    alike = [config.model_dump(exclude={"method"}) for config in configs]
    assert all(config == alike[0] for config in alike)


@pytest.mark.parametrize("name", sorted(recipes()))
def test_names_networks_that_exist(name):
    config = parse(read_recipe(name), option_types(), source=name)
    networks = [config.model.name, *([config.teacher.removeprefix("timm:")] if config.teacher else [])]
    assert all(":" in network or network in CIFAR_NAMES or timm.is_model(network.split(".")[0]) for network in networks)
    if config.model.pretrained or config.teacher:
        pretrained = timm.list_pretrained()
        tags = [network for network in networks if "." in network and ":" not in network]
        assert all(tag in pretrained for tag in tags)


@pytest.mark.parametrize("name", [name for name in sorted(recipes()) if not name.startswith("digits/")])
def test_says_where_its_numbers_come_from(name):
    header = recipes()[name].read_text(encoding="utf-8")
    assert header.startswith("# ")
    assert "\n# Numbers: " in header


def test_another_method_takes_the_options_of_the_setting():
    name = "cifar100/resnet56-resnet20"
    assert "methods" not in read_recipe(name)
    assert read_recipe(name)["method"] == {"name": "kd"}
    assert read_recipe(name, method="dkd")["method"] == {"name": "dkd", "beta": 2.0}
    assert read_recipe(name, method="at")["method"] == {"name": "at"}


def test_the_recipes_own_method_keeps_its_options():
    name = "imagenet/resnet34-resnet18"
    assert read_recipe(name, method="kd")["method"]["temperature"] == 1.0


@pytest.mark.parametrize("methods", ["", "{plain: }", "{kd: {temperature: 2}}"])
def test_a_section_of_methods_may_be_empty(methods, tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(f"methods: {methods}\n")
    assert read_recipe(str(path), method="plain") == {"method": {"name": "plain"}}


@pytest.mark.parametrize("methods", ["kd", "[kd]", "{kd: 2}"])
def test_a_section_of_methods_holds_options(methods, tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(f"methods: {methods}\n")
    with pytest.raises(ConfigError, match=r"my\.yaml: the section methods must hold the options of each method"):
        read_recipe(str(path), method="plain")


def test_a_mistake_in_a_set_value_is_not_the_recipes_alone():
    with pytest.raises(
        ConfigError, match=r"^R with --set method.scales=\[2,4\] has a mistake: method.scales: must be .* but"
    ):
        configure(
            read_recipe("digits/resnet8-kd", method="sdd"),
            option_types(),
            source="R",
            assignments=["method.scales=[2,4]"],
        )
