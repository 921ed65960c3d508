import pytest

from layerwise.models.names import nearest
from layerwise.models.registry import available


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("resnet50", "timm:resnet50"),
        ("ResNet50", "timm:resnet50"),
        ("densnet121", "timm:densenet121"),
        ("torchvision:densnet121", "torchvision:densenet121"),
        ("lenet", "lenet5"),
        ("timm:lenet5", "lenet5"),
        ("vgg-16", "vgg16"),
        ("CaffeNet", "caffenet"),
        ("cbr_tiny", "cbr-tiny"),
        ("timm:resnet19", "timm:resnet18"),
        ("torchvision:resnet17", "torchvision:resnet18"),
        ("mobilenet_v2_100", "timm:mobilenetv2_100"),
        ("convnext-tiny", "timm:convnext_tiny"),
        ("timm/resnet18", "timm:resnet18"),
    ],
)
def test_the_network_that_was_meant_comes_first(typed: str, first: str) -> None:
    assert nearest(typed, available())[0] == first


@pytest.mark.parametrize("typed", ["", ":", "timm:", "???", "x" * 300])
def test_there_is_always_an_answer(typed: str) -> None:
    known = available()
    assert 1 <= len(nearest(typed, known)) <= 3
    assert set(nearest(typed, known)) <= set(known)
