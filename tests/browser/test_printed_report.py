"""The report on paper: what belongs together stands on one page, and long tables end after their first rows."""

import re
from pathlib import Path

import pytest

from figures.report import write_report
from kdprobe.results import save_result
from tests.browser.chromium import CHROMIUM, printed_on, with_script
from tests.saved_results import comparison_result, fidelity_result, knowledge_comparison_result

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]

#: links, so that a printed document says where its places are; those that are not shown are nowhere
LINKED = """
    const link = (element, id) => {
        element.id ||= id;
        const made = Object.assign(document.createElement("a"), {href: `#${element.id}`, textContent: element.id});
        document.body.append(made, " ");
    };
"""


def test_a_heading_and_its_note_stand_above_their_chart(tmp_path: Path) -> None:
    n = 8
    for place in range(n):
        save_result(knowledge_comparison_result(), tmp_path / f"{place}.npz", table="")
    report = write_report([tmp_path], tmp_path / "r.html", title="t")
    script = f"""{LINKED}
        document.querySelectorAll("#knowledge-comparison .panel").forEach((panel, place) => {{
            panel.style.marginTop = `${{97 * place}}px`; // so that panels begin at any height of a page
            link(panel.querySelector("h3"), `heading-${{place}}`);
            link(panel.querySelector(":scope > p"), `note-${{place}}`);
            link(panel.querySelector("figure"), "");
        }});
    """
    figures = re.findall(r'<figure id="([\w-]+)"', report.read_text(encoding="utf-8"))[::2]
    n_pages, pages = printed_on(with_script(report, script), tmp_path)
    assert n < n_pages < 2 * n
    together = [{pages[f"heading-{place}"], pages[f"note-{place}"], pages[figures[place]]} for place in range(n)]
    assert [len(some) for some in together] == [1] * n
    assert len(set().union(*together)) > n / 2


def test_a_long_table_is_printed_to_its_fortieth_row_and_says_where_the_others_are(tmp_path: Path) -> None:
    groups = (*(f"method {place}" for place in range(60)), "plain")
    save_result(fidelity_result(groups, 1), tmp_path / "fidelity.npz", table="")
    report = write_report([tmp_path], tmp_path / "r.html", title="t")
    text = report.read_text(encoding="utf-8")
    (one, two) = re.findall(r'<p class="rest">(.*?)</p>', text)
    held = str(tmp_path / "fidelity.csv")
    for words, n_rows in ((one, len(groups)), (two, 5 * (len(groups) - 1))):
        assert words.replace("<wbr>", "") == f"{n_rows - 40} more rows are not printed; all are in {held}."
    script = f"""{LINKED}
        const rows = [...document.querySelectorAll("#fidelity-0 > .long")].at(-1).querySelectorAll("tbody tr");
        for (const place of [0, 39, 40, rows.length - 1]) link(rows[place], `row-${{place}}`);
        link([...document.querySelectorAll("#fidelity-0 > .rest")].at(-1), "rest");
    """
    n_pages, pages = printed_on(with_script(report, script), tmp_path)
    assert {"row-0", "row-39", "rest"} <= pages.keys()
    assert not {"row-40", f"row-{5 * (len(groups) - 1) - 1}"} & pages.keys()
    assert pages["row-0"] <= pages["row-39"] <= pages["rest"] <= pages["row-39"] + 1
    assert n_pages < 15


def test_differences_of_methods_are_all_in_the_result_itself(tmp_path: Path) -> None:
    methods = tuple(f"method {place}" for place in range(10))
    save_result(comparison_result(methods), tmp_path / "comparison.npz", table="")
    text = write_report([tmp_path], tmp_path / "r.html", title="t").read_text(encoding="utf-8")
    (words,) = re.findall(r'<p class="rest">(.*?)</p>', text)
    n_rows = 3 * 10 * 9 // 2
    held = tmp_path / "comparison.npz"
    assert words.replace("<wbr>", "") == f"{n_rows - 40} more rows are not printed; all are in {held}."
