import math

import numpy as np

from figures.words import intervals, number, percentage, with_ends


def test_numbers_in_words():
    assert number(0.126, 2) == "0.13"
    assert number(math.nan, 2) == "-"
    assert percentage(0.9567) == "95.7 %"
    assert with_ends(np.array([95.0, 93.21, 96.0])) == "95.0 [93.2, 96.0]"
    assert with_ends((95.0, 93.21, 96.0), " %") == "95.0 % [93.2, 96.0]"
    assert intervals({"confidence": 0.95}) == "95 % intervals"
    assert intervals({"confidence": 0.9, "interval": "Wilson's"}) == "90 % intervals (Wilson's)"
