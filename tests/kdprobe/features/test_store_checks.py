"""What is wrong with a part of a feature file is said in words; `FeatureStore` adds the file and the part."""

import re

import h5py
import numpy as np
import pytest

from kdprobe.features import store_checks as checks


@pytest.fixture
def group():
    with h5py.File("damaged.h5", "w", driver="core", backing_store=False) as file:
        yield file


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError("Unable to synchronously open file (file signature not found)"), "it is not an HDF5 file"),
        (OSError("Unable to open file (truncated file: eof = 7)"), "its end is missing; copy it again or dump again"),
        (KeyError("Unable to open object (object 'fc' doesn't exist)"), "fc is missing"),
        (KeyError("Can't open attribute (can't locate attribute: 'layers')"), "the attribute layers is missing"),
        (RuntimeError("Can't close (error message = 'No space left on device')"), "No space left on device"),
        (PermissionError(13, "Unable to synchronously open file (unable to open)"), "Permission denied"),
        (OSError("Can't read data (wrong fletcher32 checksum)"), "else"),
    ],
)
def test_reasons_of_hdf5_in_words(error, said):
    assert checks.hdf5_reason(error, otherwise="else") == said


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (lambda: checks.text(3), "3 is not text"),
        (lambda: checks.count("3"), "'3' is not a whole number"),
        (lambda: checks.count(True), "True is not a whole number"),
        (lambda: checks.count(9, most=8), "9 is not from 0 to 8"),
        (lambda: checks.names('{"a": 1}'), "is not a list of names"),
        (lambda: checks.names('["a", ""]'), "is not a list of names"),
        (lambda: checks.names('["a", "a"]'), "has a name twice"),
        (lambda: checks.mapping("[]"), "'[]' is not a mapping"),
        (lambda: checks.parts('["../other.h5"]'), "'../other.h5' is not a file name"),
    ],
)
def test_attributes(check, said):
    with pytest.raises((TypeError, ValueError), match=re.escape(said)):
        check()


def test_places(group):
    group.create_group("folder")
    group["link"] = h5py.SoftLink("/values")
    group["values"] = np.zeros((4, 3))
    group["places"] = np.array([-1, 2])
    for name in ("folder", "link"):
        with pytest.raises(ValueError, match="it is not a dataset"):
            checks.dataset(group, name)
    with pytest.raises(TypeError, match="it is not a group"):
        checks.dataset(group["values"], "values")
    with pytest.raises(ValueError, match=re.escape("values holds float64 [4, 3], not 4 whole numbers")):
        checks.column(group, "values", 4)
    with pytest.raises(ValueError, match="places holds -1, which is below 0"):
        checks.column(group, "places", 2)


def test_values(group):
    group["few"], group["empty"], group["map"] = np.zeros((4, 3)), np.zeros((4, 0)), np.zeros((4, 3))
    with pytest.raises(ValueError, match=re.escape("it holds float64 [4, 3], not features of 5 samples")):
        checks.features(group["few"], 5)
    with pytest.raises(ValueError, match=re.escape("it holds features without values, of shape [0]")):
        checks.features(group["empty"], 4)
    with pytest.raises(ValueError, match=re.escape("it holds float64 [4, 3], not 4 Gram matrices of 3")):
        checks.grams(group["few"], 4, 3)
    group["map"].attrs.update({"layout": "NCHW", "n_prefix": 0, "stage": 1})
    with pytest.raises(ValueError, match=re.escape("features of shape [4, 3] cannot have the layout NCHW")):
        checks.layout(group["map"], of_samples=True)
    with pytest.raises(TypeError, match=r"1.* is not true or false"):
        checks.attribute(group["map"], checks.LAYER_PATH, "stage")
    group["map"].attrs["layout"] = "CHWN"
    with pytest.raises(ValueError, match="the layout 'CHWN' is none of NCHW, NHWC"):
        checks.layout(group["map"], of_samples=True)
