"""Licences of weights, against what timm and torchvision publish."""

import hashlib
import json

import timm

from layerwise.models.licence import known_by_digest, licence_of

LOGO = "0123456789abcdef" * 4


def test_pretrained_weights_have_the_licence_that_their_configuration_says():
    config = timm.create_model("mobilenetv2_100").pretrained_cfg
    found = licence_of("timm:mobilenetv2_100, pretrained")
    assert found.name == config["license"] == "apache-2.0"
    assert found.source == f"timm's configuration of mobilenetv2_100.{config['tag']}"
    # Non-commercial, which whoever serves it must learn of.
    assert licence_of("timm:convnextv2_tiny, pretrained").name == "cc-by-nc-4.0"


def test_torchvision_says_a_licence_of_few():
    found = licence_of("vgg16, pretrained")  # ours, with torchvision's weights
    assert found.name == "unknown" and "VGG16_Weights.IMAGENET1K_V1" in found.source


def test_a_random_start_needs_none():
    assert licence_of("none").name == "none needed"


def test_a_run_and_a_file_that_is_gone_are_unknown(tmp_path):
    assert licence_of("run 0123", tmp_path).name == "unknown"
    assert licence_of("mine.pth", tmp_path / "mine.pth").name == "unknown"
    assert licence_of("mine.pth").name == "unknown"


def test_published_files_are_known_by_their_digest():
    # Of mobilenetv2_100_ra-b33bc2c4.pth and of regnet_y_16gf_swag-43afe44d.pth.
    found = known_by_digest("b33bc2c4" + "0" * 56)
    assert found is not None and found.name == "apache-2.0" and "sha256" in found.source
    swag = known_by_digest("43afe44d" + "0" * 56)
    assert swag is not None and swag.name == "cc-by-nc-4.0"
    assert known_by_digest(LOGO) is None


def test_a_file_is_read_for_its_digest_or_what_it_says(tmp_path, monkeypatch):
    path = tmp_path / "mine.pth"
    path.write_bytes(b"weights")
    assert licence_of("mine.pth", path).name == "unknown"
    assert licence_of("other.pth", path).name == "unknown"  # the source of another run
    from layerwise.models import licence

    start = hashlib.sha256(b"weights").hexdigest()[:8]
    monkeypatch.setattr(licence, "_published", lambda: ((start, licence.Licence("mit", "x")),))
    assert licence_of("mine.pth", path).name == "mit"
    assert licence_of("other.pth", path).name == "unknown"

    header = json.dumps({"__metadata__": {"license": "cc-by-4.0"}}).encode()
    own = tmp_path / "own.safetensors"
    own.write_bytes(len(header).to_bytes(8, "little") + header)
    assert licence_of("own.safetensors", own).name == "cc-by-4.0"
    own.write_bytes(b"\xff" * 20)
    assert licence_of("own.safetensors", own).name == "unknown"
