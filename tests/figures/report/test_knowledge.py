from figures import draw
from figures.report.knowledge import knowledge_panels
from figures.report.knowledge_comparison import knowledge_comparison_panels
from tests.saved_results import knowledge_comparison_result, knowledge_result


def test_lower_bounds_and_what_explained_are_shown():
    chart = knowledge_panels([("one", knowledge_result(2, measured=True))])[0].charts[0]
    assert chart.table.header[-3:] == ["CKA", "d of teacher, student", "n - d - 1 of each as target"]
    assert chart.table.rows[1][1:3] == ["≥ 80.0 [77.0, 83.0]", "3.0 [0.0, 6.0]"]
    assert chart.table.rows[1][-2:] == ["192, 120", "239, 167"]
    assert "teacher ≥ 80.0" in chart.alt
    assert chart.caption.startswith("By the adjusted method on gap features of 360 samples of digits")
    assert [text.count("≥") for text in chart.traces[0]["text"]] == [1, 1]
    marks = [(mark["text"], round(mark["y"], 1)) for mark in chart.layout["annotations"]]
    assert marks[:2] == [("≥ -1.0", -0.2), ("≥ 80.0", 0.8)]  # the teacher's bars are the upper ones
    assert all(mark["x"] < chart.layout["xaxis"]["range"][1] - 5 for mark in chart.layout["annotations"])


def test_results_of_earlier_versions_are_shown_as_they_were():
    chart = knowledge_panels([("one", knowledge_result(2))])[0].charts[0]
    assert chart.table.header[-1] == "CKA"
    assert "≥" not in str(chart.table.rows) + str(chart.traces)
    assert "annotations" not in chart.layout
    assert chart.layout["xaxis"]["range"][1] == 100


def test_students_with_lower_bounds_are_marked():
    charts = knowledge_comparison_panels([("one", knowledge_comparison_result(tuple("abcd"), 2))])[0].charts
    assert ["≥" in str(chart.table.rows) for chart in charts] == [True, False]
    assert ["annotations" in chart.layout for chart in charts] == [True, False]


def test_more_students_than_colours_are_told_apart():
    result = knowledge_comparison_result(tuple("abcdefghij"), 2)
    (panel,) = knowledge_comparison_panels([("one", result)])
    looks = [
        (trace["marker"]["color"]["light"], trace["marker"]["pattern"]["shape"]) for trace in panel.charts[0].traces
    ]
    assert len(set(looks)) == 10
    bars = draw(result).axes[0].patches
    assert len({(bar.get_facecolor(), bar.get_hatch()) for bar in bars}) == 10
