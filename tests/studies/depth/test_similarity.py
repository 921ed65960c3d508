"""Similarity by layer of known networks: the same one, and one that was changed above a cut."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from layerwise.models.registry import create
from layerwise.studies.depth.similarity import layer_similarity
from layerwise.training.transfer import Transfer


def test_only_what_was_changed_differs(workspace, tmp_path):
    place = tmp_path / "lenet5.safetensors"
    save_file(create("lenet5", outputs=1, seed=5, image_size=32).module.state_dict(), place)
    work = workspace("binary", weights=str(place))
    tuned = work.network(Transfer("lenet5", keep="fc1", copy="fc1")).eval()
    same = layer_similarity(work, tuned)
    assert [one.cut for one in same] == ["conv1", "conv2", "conv3", "fc1"]
    assert [one.cka for one in same] == pytest.approx([1.0] * 4, abs=1e-4)
    assert [one.svcca for one in same] == pytest.approx([1.0] * 4, abs=1e-3)
    with torch.no_grad():  # conv3 becomes another layer
        for parameter in tuned.original.get_submodule("conv3").parameters():
            parameter.copy_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
            )
    found = layer_similarity(work, tuned)
    assert [one.cka for one in found[:2]] == pytest.approx([1.0] * 2, abs=1e-4)
    assert found[2].cka < 0.999 and found[2].svcca < 0.8  # the class is in both, little else
    assert all(np.isfinite(one.chance) for one in found)
