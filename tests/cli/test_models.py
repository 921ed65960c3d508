"""`layerwise models`: names, sizes and cuts against published numbers and closed formulas."""

import json

import pytest

from layerwise.cli.main import main


def described(capsys, *words):
    assert main(["models", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_all_names_are_listed(capsys):
    assert main(["models"]) == 0
    names = capsys.readouterr().out.splitlines()
    assert names == described(capsys)["models"]
    assert names[0] == "lenet5"  # our own stand first
    assert {"timm:mobilenetv2_100", "timm:densenet121", "torchvision:squeezenet1_1"} <= set(names)
    assert len(set(names)) == len(names)


def test_lenet5_as_computed_by_hand(capsys):
    """Weights and biases layer by layer: 5×5 convolutions of 6, 16, 120; then 120, 84, outputs."""
    found = described(capsys, "lenet5")
    conv = [3 * 25 * 6 + 6, 6 * 25 * 16 + 16, 16 * 25 * 120 + 120]
    last = found["cuts"][4]
    assert last["name"] == "conv3"
    assert [found["cuts"][i]["parameters"] for i in (0, 2, 4)] == [
        conv[0],
        sum(conv[:2]),
        sum(conv),
    ]
    assert found["parameters"] == 34_635_761  # the golden value at 224 pixels with one output
    assert found["cuts"][-1]["parameters"] == 34_635_761 - (84 + 1)
    assert found["input"] == {"channels": 3, "height": 224, "width": 224}


def test_outputs_and_size_are_as_asked_for(capsys):
    one, ten = described(capsys, "lenet5"), described(capsys, "lenet5", "--labels", "10")
    assert ten["parameters"] - one["parameters"] == 9 * (84 + 1)
    small = described(capsys, "lenet5", "--image-size", "32")
    assert small["input"]["height"] == 32 and small["parameters"] < 100_000


def test_mobilenetv2_as_published(capsys):
    """Sandler et al. 2018: 300 million multiply–adds, 3.4 million parameters in 17 blocks."""
    found = described(
        capsys, "timm:mobilenetv2_100", "--labels", "1000", "--model-arg", "pad_type=same"
    )
    assert found["parameters"] == 3_504_872
    assert set(found["cuts"][0]) >= {"name", "channels", "stride", "parameters", "macs"}
    blocks = {cut["name"]: cut for cut in found["cuts"] if cut["block"]}
    assert len(blocks) == 19  # the stem, 17 blocks, the head
    assert list(blocks)[:4] == ["bn1", "blocks.0", "blocks.1.0", "blocks.1"]
    assert [blocks[f"blocks.{i}"]["channels"] for i in range(6)] == [16, 24, 32, 64, 96, 160]
    assert [blocks[f"blocks.{i}"]["stride"] for i in range(6)] == [2, 4, 8, 16, 16, 32]
    assert blocks["bn2"]["macs"] + 1280 * 1000 == pytest.approx(300e6, rel=0.01)
    assert blocks["bn2"]["parameters"] == 3_504_872 - 1000 * (1280 + 1)
    for name in ("parameters", "macs"):
        column = [cut[name] for cut in found["cuts"]]
        assert column == sorted(column)


def test_the_table_for_a_person(capsys):
    assert main(["models", "lenet5", "--cuts"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "  parameters  34,635,761 (with 1 output)"
    assert lines[3] == "  cuts        7, of which 5 are ends of blocks"
    heading, first = lines[5], lines[6]
    assert first.split() == ["conv1", "•", "6", "1", "456", "21,780,000"]
    assert heading.index("block") == first.index("•")
    assert len({len(line) for line in lines[5:]}) == 1  # the last column ends in one line
    assert main(["models", "lenet5"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["lenet"], "--model lenet: no such network; near to it are lenet5"),
        (["timm:mobilenetv2_10"], "timm:mobilenetv2_100"),
        (["lenet5", "--model-arg", "depth"], "--model-arg 'depth' is not KEY=VALUE"),
        (["lenet5", "--model-arg", "depth=3"], "--model-arg depth=3"),
        (["lenet5", "--model-arg", "in_chans=3"], "--model-arg in_chans"),
        (["lenet5", "--image-size", "8"], "--image-size"),
    ],
)
def test_what_is_wrong_is_named(capsys, words, named):
    assert main(["models", *words]) == 2
    printed = capsys.readouterr()
    assert named in printed.err and printed.out == ""
