import pytest

from kdprobe.errors import ConfigError, RunError
from kdprobe.formats.jsons import parse_json, read_json
from kdprobe.formats.yamls import read_yaml


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' appears twice"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * 200 + "]" * 200, "nested too deeply"),
        ("1" * 5000, "the number 1{24} is too large"),
        ("NaN", "NaN is not a number"),
        ("[1e999]", "the number 1e999 is too large"),
        (b"\xff", "UnicodeDecodeError"),
        ("{", "JSONDecodeError"),
    ],
)
def test_what_is_no_sound_json_is_told_with_the_files_name(tmp_path, text, reason):
    path = tmp_path / "x.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RunError, match=rf"x\.json cannot be read as a run's file \(.*{reason}"):
        read_json(path, RunError, expected="a run's file")


def test_results_may_say_nan():
    assert str(parse_json('{"a": [NaN, -Infinity, 18446744073709551615]}')) == (
        "{'a': [nan, -inf, 18446744073709551615]}"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: 1\na: 2", "at line 1: the key 'a' appears twice"),
        ("&a [*a]", "nested too deeply"),
        ("a: \x07", r"special characters are not allowed in .*position 3$"),
        ("[" * 3000, "nested too deeply"),
        ("9" * 6000, "Exceeds the limit"),
        ("? [a]\n: b\n", "unhashable key"),
        ("!!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
            f"{k}: &{k} [{', '.join(['*' + chr(ord(k) - 1)] * 10)}]\n" for k in "bcdefghi"
        ), "it has more than 1000000 values"),
    ],
)  # fmt: skip
def test_what_is_no_sound_yaml_is_told(text, reason):
    with pytest.raises(ConfigError, match=rf"x\.yaml is not YAML.*{reason}"):
        read_yaml(text, source="x.yaml")


def test_yaml_may_refer_to_what_it_said():
    assert read_yaml("a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}", source="x") == {
        "a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1, "e": 2},
    }  # fmt: skip
