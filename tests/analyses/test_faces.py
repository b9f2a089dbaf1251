"""Each room of the analyses shows its names without loading what stands behind them."""

import subprocess
import sys
from importlib import import_module

import pytest

ROOMS = tuple(f"analyses.{name}" for name in ("cka", "evaluation", "images", "knowledge", "map", "similarity"))


@pytest.mark.parametrize("room", ROOMS)
def test_every_name_of_a_room_is_what_it_seems(room):
    face = import_module(room)
    for name in face.__all__:
        assert getattr(face, name).__module__.startswith(room)
        assert name in dir(face)
    with pytest.raises(AttributeError, match=f"module '{room}' has no attribute 'nothing'"):
        _ = face.nothing


def test_rooms_load_nothing_heavy():
    code = f"import sys, analyses.commands, {', '.join(ROOMS)}; assert not {{'torch', 'numpy'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_hsic_has_a_face_of_its_own():
    from analyses.hsic import unbiased_hsic
    from kdprobe.features import hsic

    assert unbiased_hsic is hsic.unbiased_hsic
