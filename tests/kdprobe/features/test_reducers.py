import pytest
import torch
from torch import nn

from kdprobe.errors import CaptureError
from kdprobe.features.capturing import capture
from kdprobe.features.reducers import layout_after, reduce_stored, reducer
from kdprobe.models.layout import Layout

NAMES = ["whole", "flatten", "gap", "tokens", "cls", "spatial:2"]


def test_means_over_areas_are_those_of_the_map_however_it_is_laid_out():
    maps = torch.randn(3, 5, 6, 6)
    expected = maps.unflatten(3, (2, 3)).unflatten(2, (2, 3)).mean((3, 5))
    patches = torch.cat([torch.randn(3, 2, 5), maps.flatten(2).mT], 1)
    laid_out = [(maps, Layout("NCHW")), (maps.permute(0, 2, 3, 1), Layout("NHWC")), (patches, Layout("tokens", 2, 0))]
    for output, layout in laid_out:
        found = reducer("spatial:2")[0](output, layout)
        torch.testing.assert_close(found, expected)
        assert layout_after("spatial:2", layout) == Layout("NCHW")


def test_a_map_with_fewer_rows_than_areas_is_copied_as_it_is():
    maps = torch.randn(3, 5, 2, 6)
    found = reducer("spatial:4")[0](maps, Layout("NCHW"))
    assert found.shape == (3, 5, 2, 4)
    same = reducer("spatial:6")[0](maps, Layout("NCHW"))
    assert torch.equal(same, maps)
    assert same.data_ptr() != maps.data_ptr()


@pytest.mark.parametrize("layout", [Layout("vector"), Layout("other"), Layout("tokens", 1)])
def test_what_has_no_rows_and_columns_is_told(layout):
    output = torch.randn(3, 4) if layout.kind == "vector" else torch.randn(3, 4, 5)
    with pytest.raises(
        CaptureError, match=r"layer 'a': there are no rows and columns in .* of shape \[3, 4.*; use gap"
    ):
        reduce_stored(output, layout, "spatial:2", of="layer 'a'")


@pytest.mark.parametrize(
    "name", ["spatial", "spatial:", "spatial:0", "spatial:-1", "spatial:N", "spatial:2x2", "spatial:²"]
)
def test_spatial_takes_a_number(name):
    with pytest.raises(
        CaptureError, match=f"spatial takes its number of rows and columns, as in spatial:4, but got '{name}"
    ):
        reducer(name)


def test_an_unknown_name_is_told_with_those_near_it():
    with pytest.raises(CaptureError, match="no reducer 'token'; did you mean 'tokens'"):
        reducer("token")


@pytest.mark.parametrize("name", NAMES)
def test_the_layout_behind_a_reducer_is_that_of_what_it_gives(name):
    output, layout = torch.randn(3, 1 + 16, 6), Layout("tokens", 1, 0)
    found, after = reducer(name)[0](output, layout), layout_after(name, layout)
    assert found.ndim == {"tokens": 3, "NCHW": 4, "vector": 2}[after.kind]
    if name == "tokens":
        assert torch.equal(reducer("tokens")[0](found, after), found)


def test_capture_takes_means_over_areas():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 36, 2))
    images = torch.randn(2, 3, 6, 6)
    with torch.no_grad(), capture(net, "0", reduce="spatial:3") as features:
        net(images)
    expected = net[0](images).unflatten(3, (3, 2)).unflatten(2, (3, 2)).mean((3, 5))
    torch.testing.assert_close(features["0"], expected.detach())
