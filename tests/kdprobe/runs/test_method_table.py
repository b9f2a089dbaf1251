"""One's own comparison as a table: bold where the tests bear it, and the same numbers in every format."""

import csv
import io
import re

import numpy as np
import pytest
from click.testing import CliRunner

from analyses.commands.images import table as command
from kdprobe.errors import OutputError, ResultError
from kdprobe.mean_interval import worded_interval
from kdprobe.results import save_result
from kdprobe.runs.differences import differences
from kdprobe.runs.method_table import method_table
from tests.saved_results import cka_result, comparison_result, tuned_result


def compared(shift):
    result = comparison_result(("plain", "kd", "dropkd, lr=0.1"), 4)
    noise = 0.003 * np.cos(2.5 * np.arange(4))
    accuracy = 0.9 + np.stack([0 * noise, shift + noise, 0.01 + 3 * noise])
    result.arrays.update(accuracy=accuracy, uar=accuracy)
    names = {name: name for name in result.facts["methods"]}
    result.facts["differences"] = differences(result.arrays, names, [360] * 3, baseline="plain")
    return result


def test_the_best_is_bold_where_its_tests_find_it_higher_and_only_there():
    clear = method_table(compared(0.05)).markdown()
    assert re.search(r"^\| kd \| \*\*95\.\d ± \d\.\d\*\* \| \*\*95", clear, re.M)
    assert "Bold: the highest mean, where tests against all other methods find it higher (paired by seed, Holm" in clear
    unclear = method_table(compared(0.0)).markdown()
    assert "**" not in unclear
    assert "Bold" not in unclear


def test_a_method_that_was_not_tested_against_the_second_best_is_not_bold():
    result = compared(0.05)
    result.arrays["accuracy"][2] = result.arrays["accuracy"][1] - np.array([0.0, 0.001, -0.001, 0.0004])
    result.facts["differences"] = [one for one in result.facts["differences"] if one["method"] == "kd"]
    tested = [one for one in result.facts["differences"] if one["quantity"] == "accuracy"]
    assert tested
    assert all(one["adjusted_p_value"] < 0.01 for one in tested)
    assert "**" not in method_table(result).markdown().split("UAR")[0]
    accuracies = [cell.best for cell in method_table(result).columns[0][2]]
    assert accuracies == [False] * 3


def test_a_mean_that_is_highest_by_seeds_of_its_own_alone_is_not_bold():
    result = compared(0.0)
    shared = np.array([0.70, 0.701, 0.703])
    result.arrays["accuracy"] = np.full((3, 6), np.nan)
    result.arrays["accuracy"][:, :3] = shared, shared - 0.05 + [0, 1e-4, 0], shared - 0.1 + [0, 0, 1e-4]
    result.arrays["accuracy"][1, 3:] = 0.95, 0.951, 0.952  # so that its mean is the highest, but lower where both are
    result.arrays["uar"] = result.arrays["cka"] = result.arrays["accuracy"] * np.nan
    result.facts["seeds"] = list(range(6))
    (column,) = [cells for head, _, cells in method_table(result).columns if head == "accuracy in %"]
    assert np.argmax([cell.numbers[0] for cell in column]) == 1
    assert [cell.best for cell in column] == [False] * 3


def test_what_is_said_of_a_comparison_stands_below_its_table():
    result = tuned_result()
    result.arrays["accuracy"][1] = 0.9192
    result.facts["remarks"] = [{"reason": "after 12 final trainings had been tested, rising was added"}]
    result.facts["sources"] = ["", "", "a choice of this package: the paper's are not known"]
    text = method_table(result).markdown()
    assert "After 12 final trainings had been tested, rising was added." in text
    assert re.search(
        r"Tuned: \d+ trials of \d+ epochs for each method, the best on [\d,]+ held-out training images", text
    )
    assert "Where all seeds have the same value, the interval is that of the images." in text
    assert text.count("† |") == 1


def test_notes_tell_intervals_from_p_values_and_that_one_trial_tunes_nothing():
    text = method_table(tuned_result(("plain", "kd"), 1)).markdown()
    assert (
        "Tuned: 1 trial of 4 epochs for each method, so that nothing is tuned: the published settings, trained" in text
    )
    assert (
        "with the 95 % interval of each by itself; p is Holm's over all of them, and can therefore exceed .05 where an "
        "interval leaves out 0." in text
    )


def test_methods_that_are_reconstructed_have_a_dagger():
    made = method_table(compared(0.05))
    assert "| dropkd, lr=0.1† |" in made.markdown()
    assert r"dropkd, lr=0.1$^\dagger$ &" in made.latex()
    assert "†: reconstructed, as neither the publication nor official code shows all of it." in made.markdown()
    assert "†" not in method_table(comparison_result(("plain", "kd"))).markdown()


@pytest.mark.parametrize("name", ["dropkd", "dpk", "cakd"])
def test_methods_without_complete_official_code_have_a_dagger(name):
    made = method_table(comparison_result(("plain", name, "ofa")))
    assert made.methods == [("plain", False), (name, True), ("ofa", False)]
    assert f"| {name}† |" in made.markdown()


def test_all_formats_hold_the_same_numbers():
    result = compared(0.05)
    made = method_table(result)
    shown = worded_interval(result.arrays["accuracy"][1], scale=100, digits=1, n_images=None)
    assert shown in made.markdown()
    assert rf"\textbf{{{shown}}}".replace("±", r"$\pm$") in made.latex()
    rows = list(csv.DictReader(io.StringIO(made.csv())))
    assert [row["method"] for row in rows] == ["plain", "kd", "dropkd, lr=0.1"]
    assert float(rows[1]["accuracy in %"]) == pytest.approx(100 * result.arrays["accuracy"][1].mean())
    entry = result.facts["differences"][0]
    assert float(rows[1]["minus plain"]) == pytest.approx(100 * entry["difference"])
    assert float(rows[1]["minus plain, p (Holm)"]) == pytest.approx(entry["adjusted_p_value"])
    assert rows[0]["minus plain"] == ""


def test_tuned_methods_stand_beside_themselves_as_published():
    made = method_table(tuned_result())
    heads = [head for head, *_ in made.columns]
    assert heads == ["as published, accuracy in %", "tuned, accuracy in %", "minus kd", "minus plain"]
    assert made.latex().count(r" \\") == 1 + 3
    assert "Teacher vit_tiny: 96.4 %." in made.markdown()


def run(*words):
    return CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False, standalone_mode=False)


def test_the_command_writes_what_the_name_says(tmp_path):
    save_result(compared(0.05), tmp_path / "comparison.npz", table="")
    for ending, begins in (
        (".tex", "% needs \\usepackage{booktabs}\n\\begin{table}"),
        (".md", "| method |"),
        (".csv", "method,reconstructed"),
    ):
        said = run(tmp_path / "comparison.npz", "--out", tmp_path / f"m{ending}").output
        assert "3 methods, 4 columns" in said
        assert (tmp_path / f"m{ending}").read_text().startswith(begins)
    run(tmp_path / "comparison.npz", "--out", tmp_path / "m.tex")  # its own may be replaced
    with pytest.raises(OutputError, match=r"a table of methods must end in \.tex, \.md or \.csv, but"):
        run(tmp_path / "comparison.npz", "--out", tmp_path / "m.parquet")
    with pytest.raises(OutputError, match=r"m\.csv already exists"):
        run(tmp_path / "comparison.npz", "--out", tmp_path / "m.csv")


def test_other_results_are_no_comparison():
    with pytest.raises(ResultError, match="a 'cka' result is no comparison of methods; give one of comparison or"):
        method_table(cka_result())
