"""How many processes decode image files that are shown to networks."""

import pytest

from kdprobe.features import shared_images


@pytest.mark.parametrize(
    ("processors", "n_images", "count"),
    [(1, 10**6, 2), (8, 100, 2), (8, 1535, 2), (8, 1536, 3), (8, 10**6, 8), (96, 5000, 9), (96, 10**6, 16)],
)
def test_many_images_have_more_readers(
    monkeypatch: pytest.MonkeyPatch, processors: int, n_images: int, count: int
) -> None:
    monkeypatch.setattr(shared_images, "usable_processors", lambda: processors)
    assert shared_images.readers(n_images) == count
