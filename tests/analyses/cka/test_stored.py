"""CKA of feature files."""

import numpy as np
import pytest
import torch

from analyses.cka.stored import files_cka
from kdprobe.features import FeatureStore, Network
from kdprobe.features.gram import centred_gram


def written(path, features, index, size, content="features"):
    with FeatureStore.create(
        path, {role: Network(role) for role in features}, data="digits", batch_size=size, content=content
    ) as writer:
        for part in torch.arange(len(index)).split(size):
            rows = {role: centred_gram(x[part]) if content == "grams" else x[part] for role, x in features.items()}
            writer.append(index[part], index[part] % 3, {role: {"layer": x} for role, x in rows.items()})
    return path


@pytest.mark.filterwarnings("ignore:.*which images it saw:UserWarning")
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_views_of_one_image_in_a_minibatch_are_one_sample(tmp_path, kernel):
    generator = torch.Generator().manual_seed(0)
    index = torch.arange(64).repeat_interleave(4)
    views = {
        role: (
            torch.randn(64, 32, generator=generator)[index] + 0.3 * torch.randn(256, 32, generator=generator)
        ).double()
        for role in ("teacher", "student")
    }
    means = {role: x.reshape(64, 4, 32).mean(1) for role, x in views.items()}
    expected = files_cka(written(tmp_path / "m.h5", means, torch.arange(64), 16), kernel=kernel, permutations=19)
    for content in ("features", "grams"):
        found = files_cka(
            written(tmp_path / f"{content}.h5", views, index, 64, content), kernel=kernel, permutations=19
        )
        np.testing.assert_allclose(found.matrix, expected.matrix, atol=1e-6)
        np.testing.assert_allclose(found.p_values, expected.p_values)
        assert found.facts["n_samples"] == 64
    assert abs(found.matrix[0, 0]) < 0.2  # the two are independent
