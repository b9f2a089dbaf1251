"""The options that commands share, and what every help page shows."""

import ast
import re
from collections import defaultdict
from inspect import cleandoc
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

from analyses.commands.options import check_source
from kdprobe.cli import group
from kdprobe.cli.options import flags, tf32_option
from kdprobe.errors import ConfigError
from kdprobe.provenance import provenance

ROOT = Path(__file__).parents[3]


def commands():
    """All commands with their subcommands, by name."""
    context = click.Context(group.cli)
    for name in group.cli.list_commands(context):
        command = group.cli.get_command(context, name)
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {member}", each) for member, each in command.commands.items())


COMMANDS = dict(commands())


def declared_outside():
    """Flags of the options that are not declared in an options.py, and where they are."""
    for package in ("kdprobe", "analyses", "figures"):
        for path in (ROOT / package).rglob("*.py"):
            if path.name != "options.py":
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("click.option", "option"):
                        words = [one.value for one in node.args if isinstance(one, ast.Constant)]
                        yield from ((word.split("/")[0], path.name) for word in words if word.startswith("--"))


@pytest.mark.slow
def test_an_option_of_two_commands_is_declared_among_the_options_alone():
    holders = defaultdict(set)
    for name, command in COMMANDS.items():
        for parameter in command.params:
            for flag in parameter.opts if isinstance(parameter, click.Option) else ():
                holders[flag].add(name)
    shared = {flag for flag, names in holders.items() if len(names) > 1}
    assert {"--quiet", "--device", "--out", "--overwrite", "--retries", "--teacher-mean"} <= shared
    assert not [(flag, place) for flag, place in declared_outside() if flag in shared]


def test_an_option_says_the_same_wherever_it_means_the_same():
    texts = defaultdict(set)
    for command in COMMANDS.values():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                texts[parameter.opts[0]].add(parameter.help)
    differing = {flag for flag, found in texts.items() if len(found) > 1}
    # what is written, seeded, compared or continued is another thing in each command
    of_its_own = {"--out", "--seed", "--seeds", "--method", "--layers", "--resume", "--batch-size", "--format"}
    of_its_own |= {"--neighbours", "--permutations"}
    a_little = {"--quiet", "--data", "--teacher", "--student", "--checkpoint", "--teacher-layers", "--student-layers"}
    assert differing <= of_its_own | a_little
    assert all(2 <= len(texts[flag]) <= 4 for flag in a_little)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_help_page_is_in_sentences_and_has_an_example_that_is_a_command_line(name):
    command = COMMANDS[name]
    summary, _, rest = cleandoc(command.help).partition("\n\n")
    assert re.fullmatch(r"[A-Z][^\n]*\.", summary), summary
    for paragraph in filter(None, rest.partition("\b\n")[0].strip().split("\n\n")):
        assert paragraph.endswith((".", "?", ":")), f"{name}: {paragraph}"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert re.fullmatch(r"[A-Z].*[a-z)Z1].*\.", parameter.help, re.DOTALL), f"{name}: {parameter.opts}"
    examples = re.findall(r"^  kdprobe (.+)$", rest, re.MULTILINE)
    assert examples or isinstance(command, click.Group)
    for example in examples:
        _parse(example.partition(" > ")[0])


@pytest.mark.parametrize("name", ["cka", "decompose", "dump", "list layers", "similarity"])
def test_layers_can_be_chosen_by_all_groups_that_help_names(name):
    texts = {one.opts[0]: one.help for one in COMMANDS[name].params if isinstance(one, click.Option)}
    globs = {one.opts[0] for one in COMMANDS[name].params if "layers" in one.name and one.metavar == "GLOB"}
    assert globs
    for flag in globs:
        assert re.search("a name, a glob, stages, leaves or all;", texts[flag]), flag


def test_examples_take_results_that_other_examples_write():
    lines = [line for one in COMMANDS.values() for line in re.findall(r"^  kdprobe (.+)$", cleandoc(one.help), re.M)]
    written = {path for line in lines for path in re.findall(r"--out (\S+)", line)}
    for line in lines:
        command, _, rest = line.partition(" ")
        if command in ("figures", "report", "table"):
            places = [Path(place) for place in rest.partition(" --")[0].split()]
            assert places
            missing = {str(one) for one in places if not {str(one), str(one.parent)} & written}
            assert not missing, line


def test_help_says_what_the_terms_in_the_line_of_an_epoch_are():
    assert "terms of the loss with their weights, so that they sum to the loss." in " ".join(
        COMMANDS["train"].help.split()
    )


def _parse(line):
    """Let click take a command line apart, without running it."""
    words = re.findall(r'"[^"]*"|\S+', line)
    context, command = click.Context(group.cli), group.cli
    while isinstance(command, click.Group):
        _, command, words = command.resolve_command(context, words)
        if isinstance(command, click.Group) and words[0] not in command.commands:
            command = command.commands["run"]
    command.make_context(command.name, [word.strip('"') for word in words])


def test_flags_are_those_that_are_set():
    assert flags(overwrite=True, quiet=False, resume=True) == ["--overwrite", "--resume"]


def test_networks_or_dumps_but_not_both():
    networks = {"teacher": "a", "student": ("b",)}
    check_source((), networks, data="digits")
    check_source((Path("a.h5"),), {"teacher": None, "student": ()}, data=None)
    with pytest.raises(ConfigError, match="give --teacher and --student, or --features with dumps of both"):
        check_source((), networks | {"student": ()})
    with pytest.raises(ConfigError, match="--features takes no --teacher or --student or --data: a dump has been made"):
        check_source((Path("a.h5"),), networks, data="digits")
    with pytest.raises(ConfigError, match="--features takes no --crop-pct: a dump has been made with them"):
        check_source((Path("a.h5"),), {"teacher": None}, crop_pct=True, data=None)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_numbers_in_a_range_are_finite(value):
    with pytest.raises(ConfigError, match=f"'{value}' is not a finite number"):
        group.run("sweep-dropout", "digits/dropout-sweep", "--max-gap", value)


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--batch-size", "nan", "'nan' is not a whole number"),
        ("--batch-size", "9" * 20, f"{'9' * 20} is too large"),
        ("--permutations", str(2**31), f"{2**31} is too large"),
        ("--batch-size", "3", "3 is not in the range x>=4"),
    ],
)
def test_whole_numbers_are_whole_and_not_too_large(option, value, told):
    with pytest.raises(ConfigError, match=f"Invalid value for '{option}': {told}"):
        group.run("cka", option, value)


def test_a_seed_may_be_as_large_as_in_a_configuration():
    with pytest.raises(ConfigError, match="no recipe"):
        group.run("train", "none", "--seed", 2**64 - 1)
    with pytest.raises(ConfigError, match=f"{2**64} is too large"):
        group.run("train", "none", "--seed", 2**64)


def test_tf32_is_chosen_for_the_time_of_a_command():
    @click.command()
    @tf32_option()
    def show():
        click.echo(provenance()["float32"]["products"])

    before = torch.backends.cuda.matmul.fp32_precision
    for given, said in (((), "exact"), (("--tf32",), "tf32")):
        assert CliRunner().invoke(show, given).output == f"{said}\n"
        assert torch.backends.cuda.matmul.fp32_precision == before
