"""Words are legible on what they stand on."""

import numpy as np
from matplotlib.colors import to_rgb

from figures.style import colours, readable_on


def luminance(colour):
    parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(colour)]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_words_on_any_colour_of_a_scale_have_a_contrast_of_four_and_a_half():
    for colour in colours(-1.0, 1.0)(np.linspace(0, 1, 101)):
        dark, light = sorted(luminance(one) for one in (colour[:3], readable_on(colour)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5
