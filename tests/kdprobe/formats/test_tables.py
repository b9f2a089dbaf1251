import csv

import pytest

from kdprobe.formats.tables import aligned, safe_csv


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        *((name, "'" + name) for name in ("=1+1", "+cmd", "-x", "@sum", "  =1", "\t=1", "\rx", "-1 apple", "\uff1d1")),
        *(
            (same, same)
            for same in ("-0.5", "+1e-3", "-inf", "nan", "a=b", "x - y", "", "a;=1", 'say "x"', "a,b", "l\nm")
        ),
    ],
)
def test_a_name_is_no_formula_and_a_number_stays_one(tmp_path, cell, shown):
    path = tmp_path / "t.csv"
    text = 'head,"' + cell.replace('"', '""') + '"\n'
    path.write_text(safe_csv(text), newline="")
    with path.open(newline="") as file:
        assert next(csv.reader(file)) == ["head", shown]


def test_other_tables_stay_as_they_are():
    for text in ("a,b\n1,-2\n", "", "x\n", 'a\n""\n', 'a,"b,c"\n,\n'):
        assert safe_csv(text) == text
    assert safe_csv("a;=1,b\n") == '"a;=1",b\n'  # or a spreadsheet that separates by semicolons would compute it


def test_long_names_are_folded_and_numbers_stand_in_line():
    long = "dropkd, " + ", ".join(f"option_{number}=0.5" for number in range(8))
    text = aligned({"": ["kd", long, ""], "accuracy %": ["9.5", "10.25", "-"], "seeds": [1, 12, 3]})
    assert text.splitlines() == [
        "                                                           accuracy %  seeds",
        "kd                                                                9.5      1",
        "dropkd, option_0=0.5, option_1=0.5, option_2=0.5,               10.25     12",
        "  option_3=0.5, option_4=0.5, option_5=0.5, option_6=0.5,",
        "  option_7=0.5",
        "                                                                    -      3",
    ]
    assert aligned({"model": ["a"], "x": ["1"]}) == "model  x\na      1"
