"""The page on networks of one's own: its Python runs and prints what it says, and its recipe's keys exist."""

import re
from pathlib import Path

import yaml

from kdprobe.config import RunConfig

PAGE = (Path(__file__).parents[1] / "docs/howto/own-networks.md").read_text(encoding="utf-8")


def test_the_python_of_the_page_prints_what_it_says(capsys):
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(code, "own_networks.md", "exec"), names)
    assert capsys.readouterr().out.splitlines() == [
        "('relu', 'layer1', 'layer2', 'layer3', 'layer4')",
        "((64, 16, 16), (64, 8, 8), (128, 4, 4), (256, 2, 2), (512, 1, 1))",
        "512 10",
        "torch.Size([2, 10]) torch.Size([2, 512]) 5",
        "((16, 16, 16), (32, 8, 8))",
        "True",
    ]


def test_the_recipe_of_the_page_is_read():
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    config = RunConfig.model_validate({"data": {"spec": "digits"}, **yaml.safe_load(text)})
    assert config.model.stages == ("first", "second")
    assert config.teacher == "torchvision.models:resnet18@weights.pth"
    assert config.teacher_facts is not None
    assert config.teacher_facts.stages == ("layer2", "layer4")
