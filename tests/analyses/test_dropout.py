import numpy as np
import pytest
from scipy.stats import ttest_rel

from analyses.dropout import (
    answers_table,
    best_against_neighbours,
    difference,
    dropout_results,
    dropout_summary,
    dropout_table,
    equal_rates,
)
from figures.paper.write import published_grid
from kdprobe.cli import group as cli
from kdprobe.errors import AnalysisError
from kdprobe.results import load_result
from kdprobe.sweeps.cells import make_cells, product
from kdprobe.sweeps.ledger import begin
from tests import small_sweeps as sweeps
from tests import tiny_cells

RATES = ((0.3, 0.5, 0.7), (0.3, 0.5, 0.7))


def trained(path, cells, *, leave_out=()):
    """A sweep whose cells are done, by the stand-in for training."""
    from kdprobe.config import parse
    from kdprobe.distillers import option_types

    ledger = begin(path, cells)
    for number, cell in enumerate(cells):
        if number not in leave_out and not ledger.run(cell.id).finished:
            tiny_cells.instant(parse(cell.config, option_types()), ledger.run(cell.id).path, "cpu")
    return ledger


class TestDifference:
    def test_is_the_paired_t_interval(self):
        rng = np.random.default_rng(0)
        first, second = rng.normal(0.9, 0.01, 6), rng.normal(0.89, 0.01, 6)
        expected = ttest_rel(first, second).confidence_interval(0.95)
        found = difference(first, second)
        assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))
        assert found["difference"] == pytest.approx(first.mean() - second.mean())

    def test_equal_differences_are_as_uncertain_as_their_images_make_them(self):
        first, second = np.array([0.9, 0.9, np.nan]), np.array([0.8, 0.8, 0.8])
        assert difference(first, second)["low"] is None
        assert difference(first, second, n_images=100)["low"] == pytest.approx(-0.015848, abs=1e-5)

    def test_widens_with_the_number_of_intervals(self):
        first, second = np.array([0.9, 0.91, 0.93]), np.array([0.9, 0.9, 0.9])
        expected = ttest_rel(first, second).confidence_interval(1 - 0.05 / 8)
        assert difference(first, second, n_tests=8)["low"] == pytest.approx(expected.low)

    def test_uses_the_seeds_that_both_have(self):
        found = difference(np.array([0.9, np.nan, 0.92]), np.array([0.8, 0.5, np.nan]))
        assert found == {"difference": pytest.approx(0.1), "low": None, "high": None}
        nothing = difference(np.array([np.nan]), np.array([0.5]))
        assert nothing == {"difference": None, "low": None, "high": None}


class TestEqualRates:
    def wins(self, name):
        grid = published_grid(name)
        rates = grid.facts["rates_teacher"], grid.facts["rates_student"]
        entries = equal_rates(grid.arrays["accuracy"], rates)
        return {
            side: {e["rate"] for e in entries if e["fixed"] == side and e["wins"]} for side in ("teacher", "student")
        }

    def test_on_the_published_grids(self):
        feature, logit = (self.wins(name) for name in ("figure2", "figure3"))
        assert feature == {"teacher": {0.4, 0.5, 0.6}, "student": {0.3, 0.4, 0.5, 0.6, 0.7}}
        assert logit == {"teacher": {0.3, 0.4, 0.5, 0.6, 0.7}, "student": {0.4, 0.5, 0.6, 0.7}}  # a tie at 0.3

    def test_rows_without_an_equal_cell_are_not_judged(self):
        accuracy = np.full((3, 3, 2), np.nan)
        accuracy[0, 0], accuracy[0, 2], accuracy[1, 0] = 0.9, 0.8, 0.95
        entries = equal_rates(accuracy, RATES)
        assert [(entry["fixed"], entry["rate"], entry["wins"], entry["other"]) for entry in entries] == [
            ("teacher", 0.3, True, 0.7),
            ("student", 0.3, False, 0.5),
        ]
        assert entries[0]["difference"] == pytest.approx(0.1)

    def test_wins_over_the_seeds_of_both(self):
        accuracy = np.full((1, 2, 3), np.nan)
        accuracy[0, 0, 0] = 0.90
        accuracy[0, 1] = [0.95, 0.80, 0.80]
        (entry,) = [e for e in equal_rates(accuracy, ((0.3,), (0.3, 0.5))) if e["fixed"] == "teacher"]
        assert (entry["wins"], entry["difference"]) == (False, pytest.approx(-0.05))


class TestBest:
    def grid(self, spread):
        rng = np.random.default_rng(1)
        accuracy = 0.8 + spread * rng.standard_normal((3, 3, 5))
        accuracy[1, 2] += 0.05
        return accuracy

    def test_is_distinguishable_where_seeds_agree(self):
        best = best_against_neighbours(self.grid(0.001), RATES)
        assert (best["teacher_rate"], best["student_rate"]) == (0.5, 0.7)
        assert {(n["teacher_rate"], n["student_rate"]) for n in best["neighbours"]} == {
            (0.3, 0.5),
            (0.3, 0.7),
            (0.5, 0.5),
            (0.7, 0.5),
            (0.7, 0.7),
        }
        assert best["distinguishable"] is True

    def test_is_not_where_they_do_not(self):
        assert best_against_neighbours(self.grid(0.05), RATES)["distinguishable"] is False

    def test_is_none_of_those_with_fewer_seeds(self):
        accuracy = self.grid(0.001)
        accuracy[0, 0, 0], accuracy[0, 0, 1:] = 0.99, np.nan
        best = best_against_neighbours(accuracy, RATES)
        assert (best["teacher_rate"], best["student_rate"]) == (0.5, 0.7)

    def test_is_unknown_from_one_seed_or_without_neighbours(self):
        assert best_against_neighbours(self.grid(0.001)[..., :1], RATES)["distinguishable"] is None
        alone = np.full((3, 3, 2), np.nan)
        alone[1, 1] = 0.5
        assert best_against_neighbours(alone, RATES)["distinguishable"] is None


class TestResults:
    def test_both_kinds_with_a_shared_cell(self, tmp_path):
        cells = sweeps.cells((0.3, 0.5, 0.7), 2) + sweeps.cells((0.3, 0.5, 0.7), 2, "logit")
        trained(tmp_path / "s", cells)
        feature, logit = dropout_results(tmp_path / "s")
        assert (feature.facts["kind"], logit.facts["kind"]) == ("feature", "logit")
        assert feature.arrays["accuracy"].shape == (3, 3, 2)
        assert feature.arrays["accuracy"][0, 2].tolist() == pytest.approx([0.5, 0.501])
        assert feature.facts["fixed_rates"] == {"logit_rate_teacher": 0.5, "logit_rate_student": 0.5}
        assert all(entry["wins"] for entry in feature.facts["equal_rate"])
        assert len(dropout_table(feature)) == 18
        assert "the equal rate wins for 3 of 3 rates (0.3, 0.5, 0.7)" in dropout_summary(feature)

    def test_answers_are_told_in_numbers(self, tmp_path):
        trained(tmp_path / "s", sweeps.cells((0.3, 0.5, 0.7), 2))
        (result,) = dropout_results(tmp_path / "s")
        table = answers_table(result)
        asked = table["question"].value_counts().to_dict()
        assert asked == {"does the equal rate win": 6, "is the best cell distinguishable": 3}
        means = {
            (t, s): a
            for t, s, a in dropout_table(result)
            .groupby(["teacher_rate", "student_rate"])["accuracy"]
            .mean()
            .reset_index()
            .to_numpy()
        }
        for row in table.itertuples():
            lead = means[row.teacher_rate, row.student_rate] - means[row.other_teacher_rate, row.other_student_rate]
            assert row.difference == pytest.approx(lead)
            assert row.low <= row.difference <= row.high
        fixed = table[table["fixed"] == "student"]
        assert (fixed["other_student_rate"] == fixed["student_rate"]).all()
        text = dropout_summary(result)
        first = result.facts["equal_rate"][0]
        assert f"\n  0.3: {100 * first['difference']:+.2f} points [" in text
        assert "(least certain lead: " in text

    def test_answers_without_a_seed_in_common(self, tmp_path):
        cells = sweeps.cells((0.3, 0.5), 2)
        kept = [cell for cell in cells if cell.values["seed"] == (len(set(list(cell.values.values())[:2])) == 2)]
        trained(tmp_path / "s", cells, leave_out=[number for number, cell in enumerate(cells) if cell not in kept])
        (result,) = dropout_results(tmp_path / "s")
        text = dropout_summary(result)
        assert "  0.3: no seed in common against 0.5" in text
        assert "whether it differs from its neighbours cannot be said" in text
        assert answers_table(result)["answer"].isna().sum() == 3

    def test_cells_that_are_not_done_are_missing(self, tmp_path):
        cells = sweeps.cells((0.3, 0.5), 1)
        trained(tmp_path / "s", cells, leave_out=(1,))
        (result,) = dropout_results(tmp_path / "s")
        assert np.isnan(result.arrays["accuracy"][0, 1, 0])
        assert result.facts["n_missing"] == 1
        assert len(dropout_table(result)) == 3
        assert "cannot be said from so few seeds" in dropout_summary(result)

    def test_what_has_no_answer(self, tmp_path):
        from kdprobe.distillers import option_types

        sweeps.ledger(tmp_path / "empty")
        with pytest.raises(AnalysisError, match=r"no cell of .*empty is done yet; see kdprobe sweep status"):
            dropout_results(tmp_path / "empty")
        trained(tmp_path / "other", make_cells(sweeps.base(), product({"seed": [0]}), option_types()))
        with pytest.raises(AnalysisError, match="other varies no dropout rates"):
            dropout_results(tmp_path / "other")
        axes = {
            "method.feature_rate_teacher": [0.5],
            "method.feature_rate_student": [0.5],
            "training.epochs": [1, 2],
        }
        trained(tmp_path / "more", make_cells(sweeps.base(), product(axes), option_types()))
        with pytest.raises(AnalysisError, match=r"varies more than one pair of dropout rates: training\.epochs"):
            dropout_results(tmp_path / "more")

    def test_cells_without_labels_have_no_accuracy(self, tmp_path, capsys):
        cells = sweeps.cells((0.3, 0.5), 1)
        ledger = trained(tmp_path / "s", cells)
        for cell in cells:
            run = ledger.run(cell.id)
            run.write_result({**run.result(), "accuracy": None})
        with pytest.raises(AnalysisError, match=r"the cells of .*s learnt without labels, so they have no accuracy to"):
            dropout_results(tmp_path / "s")
        cli.run("sweep", "status", tmp_path / "s")
        assert f"{len(cells)} done" in capsys.readouterr().out

    @pytest.mark.parametrize(("key", "what"), [("teacher_sha256", "teachers"), ("data", "data sets")])
    def test_cells_that_cannot_be_compared(self, key, what, tmp_path):
        cells = sweeps.cells((0.3, 0.5), 1)
        ledger = trained(tmp_path / "s", cells)
        run = ledger.run(cells[0].id)
        run.write_result({**run.result(), key: "another"})
        with pytest.raises(AnalysisError, match=f"were trained with different {what}: .*another"):
            dropout_results(tmp_path / "s")

    def test_the_command_saves_draws_and_answers(self, tmp_path, capsys):
        trained(tmp_path / "s", sweeps.cells((0.3, 0.5, 0.7), 3))
        cli.run("dropout", tmp_path / "s", "--out", tmp_path / "out", "--quiet")
        text = capsys.readouterr().out
        assert "feature dropout rates on digits, 3 seeds, 0 trainings missing" in text
        assert "best: teacher 0.3, student 0.3, 90.10 %; not distinguishable" in text
        assert load_result(tmp_path / "out" / "dropout-feature.npz", kind="dropout-sweep").facts["seeds"] == [0, 1, 2]
        names = {path.name for path in (tmp_path / "out").iterdir()}
        kinds = ("dropout-feature.csv", "dropout-feature-answers.csv", "dropout-feature.pdf", "dropout-feature.png")
        assert set(kinds) <= names
