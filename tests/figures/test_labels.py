"""Texts that fit the room they have."""

from figures.labels import fitting, in_lines, shorten_all, text_width
from figures.style import LABEL

WORDINGS = ("share of the variance in %", "share in %", "%")


def test_the_longest_wording_that_fits_is_taken():
    for place, wording in enumerate(WORDINGS):
        room = text_width(wording, LABEL)
        assert fitting(LABEL, room, *WORDINGS) == wording
        assert fitting(LABEL, room - 0.01, *WORDINGS) == WORDINGS[min(place + 1, 2)]


def test_without_room_the_last_wording_is_shortened():
    found = fitting(LABEL, 40, "a very long title of an axis", "a long title of an axis")
    assert "…" in found
    assert found.startswith("a")


def test_sentences_are_broken_between_words():
    texts = ["General is what the other network's layer predicts.", "Short."]
    lines = in_lines(texts, LABEL, 90)
    assert len(lines) > 2
    assert " ".join(lines) == " ".join(texts)
    assert max(text_width(line, LABEL) for line in lines) <= 90
    assert lines[-1] == "Short."
    assert in_lines(texts, LABEL, 1000) == texts
    assert in_lines([], LABEL, 100) == []


def test_different_names_stay_different():
    long = [f"dropkd, feature_rate_teacher=0.5, feature_weight={weight}, logit_weight=1.0" for weight in (0, 1, 2)]
    shown = shorten_all(["kd", *long, "kd", long[1]], 24)
    assert shown == ["kd", *(f"dropkd, f…weight=1.0 ({number})" for number in (1, 2, 3)), "kd", shown[2]]
    assert max(map(len, shown)) <= 24
    assert shorten_all(["kd", "a name of more than ten letters"], 10) == ["kd", "a na…tters"]
