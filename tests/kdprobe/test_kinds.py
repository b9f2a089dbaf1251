"""The schema of results: what it refuses, in which words, and kinds that other packages register."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from kdprobe.errors import ResultError
from kdprobe.kinds import (
    KINDS,
    SHARE,
    Anything,
    Dict,
    Flag,
    Kind,
    List,
    Maybe,
    Number,
    Record,
    Text,
    Values,
    find_kind,
)
from kdprobe.results import Result, check_result, load_result, save_result
from tests import saved_results
from tests.saved_results import PROVENANCE, cka_result, dropout_result, evaluation_result, knowledge_result

RESULTS = [make() for name, make in vars(saved_results).items() if name.endswith("_result")]


def test_the_results_of_the_tests_are_of_every_kind():
    assert {result.kind for result in RESULTS} == set(KINDS)


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: result.kind)
def test_every_array_and_fact_is_looked_for(result):
    kind = KINDS[result.kind]
    for what, known in (("arrays", kind.arrays), ("facts", kind.facts), ("provenance", kind.provenance)):
        held = getattr(result, what)
        for name in [name for name in held if name in known and known[name].required]:
            less = replace(result, **{what: {key: value for key, value in held.items() if key != name}})
            with pytest.raises(ResultError, match=rf"^in this '{result.kind}' result: the \w+ '{name}' is missing$"):
                check_result(less)


def test_results_of_earlier_versions_fit():
    old = cka_result()
    old.facts.pop("weighting", None)
    check_result(old)
    old = knowledge_result()
    old.facts.pop("left_out", None)
    check_result(old)
    old = evaluation_result()
    old.arrays["ece"][:, 1] = -0.018  # an end of an interval
    check_result(old)


def test_rates_rise():
    grid = dropout_result()
    grid.facts["rates_teacher"] = [grid.facts["rates_teacher"][0]] * len(grid.facts["rates_teacher"])
    with pytest.raises(ResultError, match=r"the fact 'rates_teacher' must rise, but is \["):
        check_result(grid)


@pytest.mark.parametrize(
    ("array", "values", "message"),
    [
        (Values("n"), [1.0], r"must be an array, but is \[1\.0\]$"),
        (Values("n"), np.array(["a"]), r"must hold real numbers, but holds <U1$"),
        (Values("n"), np.ones(2, ">f8"), r"must hold real numbers, but holds >f8$"),
        (Values("n"), np.ones(2, np.longdouble), r"must hold real numbers, but holds float128$"),
        (Values("n", "whole"), np.ones(2), r"must hold whole numbers, but holds float64$"),
        (Values("n", "uint8"), np.ones(2, np.uint16), r"must hold bytes, but holds uint16$"),
        (Values("n m"), np.ones(2), r"must have the dimensions \[n, m\], but is \[2\]$"),
        (Values("n n"), np.ones((2, 3)), r"the array 'x' has 3 n, but the array 'x' has 2$"),
        (Values("n 4"), np.ones((2, 3)), r"must have 4 numbers or items side by side, but has 3$"),
        (Values("n"), np.ones(0), r"must have n, but is empty$"),
        (Values("k"), np.ones(3), r"the fact 'k' has 2 k, but the array 'x' has 3$"),
        (Values("k+1"), np.ones(4), r"the fact 'k' has 2 k, but the array 'x' has 3$"),
        (Values("n"), np.array([1, np.nan]), r"must hold numbers alone, but is NaN somewhere$"),
        (Values("n", nan="some"), np.full(2, np.nan), r"must hold a number, but is NaN everywhere$"),
        (Values("n", nan="all"), np.array([1, -np.inf]), r"must lie in \[-1e\+100, 1e\+100\], but holds -inf$"),
        (Values("n"), np.array([1e101]), r"must lie in \[-1e\+100, 1e\+100\], but holds 1e\+101$"),
        (Values("n", within=SHARE), np.array([0.5, 1.01]), r"must lie in \[0, 1\], but holds 1\.01$"),
        (Values("n", "whole", index="k"), np.array([0, 2]), r"must lie in \[0, 1\], but holds 2$"),
        (Values("n", rising=True), np.array([1, 1]), r"must rise, but is \[1, 1\]$"),
        (Values("interval"), np.array([1.0, 2.0, 0.0]), r"but a low end lies above its high end$"),
        (Values("n", at_most="y"), np.array([3.0]), r"must not exceed 'y', but does$"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit(array, values, message):
    kind = Kind({"x": array, "y": Values("n", required=False)}, {"k": List(Text(), "k")})
    further = {"y": np.array([2.0])} if array.at_most else {}
    with pytest.raises(ResultError, match=message):
        kind.check({"x": values, **further}, {"k": ["a", "b"]})


@pytest.mark.parametrize(
    ("fact", "value", "message"),
    [
        (Text(), 3, "must be text, but is 3"),
        (Text(longest=2), "abc", "must have at most 2 characters, but has 3"),
        (Text(words=("a", "b")), "c", "must be 'a' or 'b', but is 'c'"),
        (Text(), "a\ud800", r"must be text, but 'a\\ud800' has half a character"),
        (Number(), True, "must be a number, but is True"),
        (Number(), float("inf"), "must be a number, but is inf"),
        (Number(whole=True), 2.0, "must be a whole number, but is 2.0"),
        (Number(SHARE), -1, r"must lie in \[0, 1\], but is -1"),
        (Number(), 10**101, r"must lie in \[-1e\+100, 1e\+100\], but is 1000"),
        (Flag(), 1, "must be true or false, but is 1"),
        (List(Text()), "abc", "must be a list, but is 'abc'"),
        (List(Text(), "n"), ["a"], "has 1 n, but the array 'y' has 2"),
        (List(Number()), [1, "a"], r"must be a number, but is 'a'"),
        (Record({"a": Text()}), [], r"must be a mapping, but is \[\]"),
        (Record({"a": Text()}), {"b": 1}, r"must have 'a', but is \{'b': 1\}"),
        (Record({"a": Text(required=False)}), {"a": 1}, "must be text, but is 1"),
        (Dict(Text()), {3: "a"}, "must be text, but is 3"),
        (Dict(Text()), {"a": 3}, "must be text, but is 3"),
        (Maybe(Text()), 3, "must be text, but is 3"),
        (Anything(), {"a": [np.float32(1)]}, r"must be a JSON value, but is np.float32\(1.0\)"),
        (Text(), {"a" * 100: 1}, r"must be text, but is \{'a{58}\.\.\.$"),
    ],
)
def test_facts_that_do_not_fit(fact, value, message):
    kind = Kind({"y": Values("n")}, {"x": fact})
    with pytest.raises(ResultError, match=f"^(a key of )?the fact 'x'.* ?{message}"):
        kind.check({"y": np.ones(2)}, {"x": value})


def test_the_place_of_a_fact_is_named():
    result = cka_result(undefined=((0, 1),))
    result.facts["undefined"][0]["reason"] = 5
    with pytest.raises(ResultError, match=r"^in this 'cka' result: the fact 'undefined'\[0\]\.reason must be text"):
        check_result(result)


def test_arrays_that_go_together():
    result = saved_results.knowledge_result(rates=True)
    del result.arrays["teacher_by_rate"]
    with pytest.raises(ResultError, match=r"the array 'teacher_by_rate' is missing, which goes with 'rates'$"):
        check_result(result)


def test_what_is_not_known_is_not_saved_but_may_be_read(tmp_path):
    result = cka_result()
    for what, name in (("array", "matrixx"), ("fact", "kernell")):
        held = {**result.arrays, name: np.ones(2)} if what == "array" else {**result.facts, name: "rbf"}
        more = {f"{what}s": held}
        with pytest.raises(ResultError, match=rf"in this 'cka' result: the {what} '{name}' is not known; did you mean"):
            save_result(replace(result, **more), tmp_path / "cka.npz", table="")
        check_result(replace(result, **more))  # as a later version may write it
    assert not list(tmp_path.iterdir())


def test_a_file_that_does_not_fit_is_told_in_one_line(tmp_path):
    path = tmp_path / "cka.npz"
    save_result(cka_result(), path, table="")
    with np.load(path) as file:
        arrays = dict(file)
    with path.open("wb") as file:
        np.savez(file, **{**arrays, "matrix": arrays["matrix"][:2]})
    with pytest.raises(
        ResultError, match=r"cka\.npz: in this 'cka' result: the array 'low' has 4 teacher_layers, but "
    ):
        load_result(path)


def test_numbers_need_no_origin_but_files_do(tmp_path):
    result = replace(cka_result(), provenance={})
    check_result(result, with_provenance=False)
    with pytest.raises(ResultError, match="in this 'cka' result: the origin 'versions' is missing"):
        save_result(result, tmp_path / "cka.npz", table="")


RHYMES = """
from kdprobe.kinds import ORIGIN, SHARE, Values, Kind, List, Text

RHYME = Kind(
    arrays={"purity": Values("poems lines", within=SHARE, nan="some")},
    facts={"poems": List(Text(), "poems")},
    provenance=ORIGIN,
)


def draw(result):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 2))
    figure.add_subplot().imshow(result.arrays["purity"])
    return figure
"""


@pytest.fixture
def rhymes(tmp_path, monkeypatch):
    """Installs a package that registers a kind and its picture; what it registers may be given."""

    def install(kind="rhymes:RHYME", picture="rhymes:draw", name="rhymes"):
        site = tmp_path / name
        site.mkdir()
        (site / "rhymes.py").write_text(RHYMES)
        about = site / f"{name}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(
            f"[kdprobe.kinds]\nrhyme = {kind}\n\n[kdprobe.figures]\nrhyme = {picture}\n"
        )
        monkeypatch.syspath_prepend(site)

    monkeypatch.delitem(sys.modules, "rhymes", raising=False)
    return install


def rhyme(purity=((0.5, 1.0),)):
    return Result("rhyme", {"purity": np.array(purity)}, {"poems": ["raven"]}, PROVENANCE)


def test_a_package_registers_a_kind_and_its_picture(rhymes, tmp_path):
    from figures.pictures import draw_files

    rhymes()
    save_result(rhyme(), tmp_path / "r.npz", table="")
    assert load_result(tmp_path / "r.npz").facts == {"poems": ["raven"]}
    for wrong, message in ((((0.5, 1.5),), r"lie in \[0, 1\], but holds 1\.5"), (((0.5,), (0.5,)), "has 1 poems")):
        with pytest.raises(ResultError, match=rf"^in this 'rhyme' result: the \w+ '\w+' .*{message}"):
            save_result(rhyme(wrong), tmp_path / "r.npz", table="")
    assert [path.name for path in draw_files([tmp_path / "r.npz"], ["svg"])] == ["r.svg"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("rhymes:draw", "registered as 'rhyme' must be a kdprobe.kinds.Kind, but is a function"),
        ("rhymes:NONE", "'rhyme' of kdprobe.kinds cannot be imported from rhymes:NONE: "),
        ("rimes:RHYME", "'rhyme' of kdprobe.kinds cannot be imported from rimes:RHYME: No module named 'rimes'"),
    ],
)
def test_a_registered_kind_that_is_none_is_told(rhymes, target, message):
    rhymes(kind=target)
    with pytest.raises(ResultError, match=message):
        check_result(rhyme())


def test_two_packages_that_register_one_kind_are_named(rhymes):
    rhymes()
    rhymes(kind="rhymes:OTHER", name="verses")
    with pytest.raises(
        ResultError, match=r"'rhyme' of kdprobe\.kinds is registered as rhymes:OTHER and as rhymes:RHYME"
    ):
        find_kind("rhyme")


def test_an_unregistered_kind_may_hold_any_numbers(tmp_path):
    save_result(Result("poem", {"x": np.arange(0)}, {"a": [1, {"b": None}]}), tmp_path / "p.npz", table="")
    assert load_result(tmp_path / "p.npz").arrays["x"].shape == (0,)
    for result, message in (
        (Result("poem", {"x": np.array(["a"])}), "the array 'x' must hold numbers, but holds <U1"),
        (Result("poem", {}, {"a": {1, 2}}), r"the fact 'a' must be a JSON value, but is \{1, 2\}"),
        (Result("poem", {}, {}, {"versions": 3}), "the origin 'versions' must be a mapping, but is 3"),
    ):
        with pytest.raises(ResultError, match=message):
            check_result(result)
