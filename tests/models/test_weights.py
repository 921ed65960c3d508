import os
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from layerwise.errors import WeightsError
from layerwise.models.pixels import Pixels
from layerwise.models.registry import Network, blank, create
from layerwise.models.weights import fit_weights, read_weights


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small pictures: threads only wait for each other
    yield
    torch.set_num_threads(threads)


def lenet(outputs: int = 2, channels: int = 1, seed: int = 0) -> Network:
    return create("lenet5", outputs=outputs, channels=channels, image_size=32, seed=seed)


@pytest.mark.parametrize("kind", ["plain", "nested", "parallel", "safetensors", "run"])
def test_every_kind_of_file_gives_the_same_weights(tmp_path: Path, kind: str) -> None:
    state = lenet(seed=3).module.state_dict()
    path = tmp_path / "w.pth"
    if kind == "plain":
        torch.save(state, path)
    elif kind == "nested":
        torch.save({"epoch": 3, "state_dict": state}, path)
    elif kind == "parallel":
        torch.save({f"module.{name}": value for name, value in state.items()}, path)
    elif kind == "safetensors":
        path = tmp_path / "w.safetensors"
        save_file(state, path)
    else:
        path = tmp_path / "run"
        path.mkdir()
        save_file(state, path / "weights.safetensors")
    network = lenet()
    fitted, notes = fit_weights(read_weights(str(path), network), network, str(path))
    assert notes == []
    assert list(fitted) == list(state)
    assert all(torch.equal(fitted[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("name", "size", "other", "layer"),
    [("lenet5", 32, 36, "fc1"), ("alexnet", 67, 99, "fc6"), ("caffenet-32", 32, 48, "fc6")],
)
def test_weights_of_another_picture_size_ask_for_theirs(name, size, other, layer) -> None:
    state = blank(name, outputs=1, image_size=other).module.state_dict()
    words = (
        f"(?s)--weights w.pth.*--model {name} at {size}×{size}.*{layer}.weight is .*--image-size"
    )
    with pytest.raises(WeightsError, match=words):
        fit_weights(state, blank(name, outputs=1, image_size=size), "w.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(value: float) -> None:
    state = lenet().module.state_dict()
    state["conv2.weight"] = state["conv2.weight"].clone()
    state["conv2.weight"][1, 2, 3, 4] = value
    with pytest.raises(WeightsError, match="--weights w: conv2.weight holds values.*name another"):
        fit_weights(state, lenet(), "w")


class Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("attacked",)


def test_files_that_can_not_be_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    network = lenet()
    torch.save(network.module.state_dict(), "whole.pth")
    Path("short.pth").write_bytes(Path("whole.pth").read_bytes()[:5000])
    save_file(network.module.state_dict(), "whole.safetensors")
    Path("short.safetensors").write_bytes(Path("whole.safetensors").read_bytes()[:5000])
    Path("empty.pth").touch()
    Path("empty.safetensors").touch()
    Path("folder").mkdir()
    Path("folder.safetensors").mkdir()
    Path("garbage.safetensors").write_bytes(b"\x40" + bytes(7) + b"{no json at all" * 20)
    Path("endless.safetensors").write_bytes(b"\xff" * 8 + b"{}")  # a header of 2^64 bytes
    Path("picture.safetensors").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    Path("text.pth").write_text("<html>404</html>")
    Path("zip.pth").write_bytes(Path("whole.pth").read_bytes()[:-200] + bytes(200))
    Path("old.pth").write_bytes(pickle.dumps({"state_dict": Attack()}, protocol=2))
    Path("bare.pth").write_bytes(pickle.dumps(Attack(), protocol=4))
    torch.save({"state_dict": Attack()}, "code.pth")
    torch.save([1, 2], "list.pth")
    words = {
        "absent.pth": "no such file",
        "folder": "weights.safetensors",
        "short.pth": "damaged",
        "short.safetensors": "not a whole",
        "empty.pth": "damaged",
        "empty.safetensors": "not a whole",
        "folder.safetensors": "weights.safetensors",
        "garbage.safetensors": "not a whole",
        "endless.safetensors": "not a whole",
        "picture.safetensors": "not a whole",
        "text.pth": "damaged|run code",
        "zip.pth": "damaged",
        "old.pth": "run code",
        "bare.pth": "run code",
        "code.pth": "run code",
        "list.pth": "state_dict",
    }
    for name, said in words.items():
        with pytest.raises(WeightsError, match=f"(?s)--weights {name}.*({said})") as caught:
            read_weights(name, network)
        assert re.search("; (get it again|save|name)", str(caught.value))  # the next step
    assert not Path("attacked").exists()


def test_without_a_hub_a_file_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    network = create("timm:mobilenetv2_050", outputs=2, image_size=32)

    def offline(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(WeightsError, match="--weights pretrained.*name a file"):
        read_weights("pretrained", network)
    with pytest.raises(WeightsError, match="lenet5 has none"):
        read_weights("pretrained", lenet())


def test_a_head_for_other_labels_is_dropped_with_a_notice() -> None:
    state = lenet(outputs=10).module.state_dict()
    fitted, (note,) = fit_weights(state, lenet(outputs=2), "ten.pth")
    assert set(state) - set(fitted) == {"fc3.weight", "fc3.bias"}
    assert "fc3" in note and "ten.pth" in note


def test_colour_weights_answer_grey_pictures_as_before_in_a_grey_network() -> None:
    colour, grey = lenet(channels=3, seed=1), lenet(channels=1)
    fitted, (note,) = fit_weights(colour.module.state_dict(), grey, "w")
    assert "summed" in note
    grey.module.load_state_dict(fitted)
    x = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(grey.module(x), colour.module(x.expand(-1, 3, -1, -1)))
    back, (note,) = fit_weights(fitted, colour, "w")
    assert "shared out" in note
    colour.module.load_state_dict(back)
    torch.testing.assert_close(grey.module(x), colour.module(x.expand(-1, 3, -1, -1)))


def test_weights_of_another_network_are_refused_with_what_differs() -> None:
    state = timm.create_model("resnet18", num_classes=2).state_dict()
    with pytest.raises(
        WeightsError, match=r"(?s)--weights r18.*missing: conv1.bias.*and \d+ more.*--model"
    ):
        fit_weights(state, lenet(), "r18")
    state = lenet().module.state_dict()
    state["conv2.weight"] = state["conv2.weight"][:, :, :3]
    with pytest.raises(WeightsError, match="1 of 12 keys differ"):
        fit_weights(state, lenet(), "w")


def test_half_precision_and_absent_counters_do() -> None:
    network = create("timm:mobilenetv2_050", outputs=2, image_size=32)
    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in network.module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    fitted, notes = fit_weights(state, network, "w")
    assert notes == [] and set(fitted) == set(state)
    assert all(value.dtype == torch.float32 for value in fitted.values())


@pytest.mark.parametrize(
    ("model", "file", "arguments"),
    [
        ("timm:mobilenetv2_100", "mobilenetv2_100_imagenet.pth", {"pad_type": "same"}),
        ("torchvision:squeezenet1_1", "squeezenet1_1_imagenet.pth", {}),
    ],
)
def test_imagenet_weights_still_recognise_things(
    shared_data: Path, model: str, file: str, arguments: dict[str, str]
) -> None:
    network = create(model, outputs=1000, arguments=arguments)
    path = str(shared_data / "weights" / file)
    fitted, notes = fit_weights(read_weights(path, network), network, path)
    assert notes == []
    network.module.load_state_dict(fitted)
    labels = (shared_data / "weights" / "imagenet_labels.txt").read_text().splitlines()[1:]
    pixels = Pixels(network.contract)
    expected = {"cat_720p.jpg": "Egyptian cat", "hot_dog.jpg": "hotdog, hot dog, red hot"}
    expected |= {"parrot.jpg": "macaw", "bird.bmp": "chickadee"}
    for name, label in expected.items():
        picture = Image.open(shared_data / "imagenet-photos" / name).convert("RGB")
        images = torch.from_numpy(np.array(picture.resize((224, 224)))[None])  # (1, H, W, 3)
        with torch.no_grad():
            logits = network.module.eval()(pixels(images))
        assert labels[int(logits.argmax())] == label


def test_a_head_built_differently_is_dropped_whole(shared_data: Path) -> None:
    network = create("torchvision:mobilenet_v3_small", outputs=2, image_size=64)
    path = str(shared_data / "weights" / "mobilenet_v3_small_cxr.pth")
    fitted, (note,) = fit_weights(read_weights(path, network), network, path)
    assert "classifier" in note
    assert set(network.module.state_dict()) - set(fitted) == {
        f"classifier.{i}.{kind}" for i in (0, 3) for kind in ("weight", "bias")
    }
