"""`layerwise models`: names, sizes and cuts against published numbers and closed formulas."""

import json
import subprocess
import sys

import pytest

from layerwise.cli.main import main


def described(capsys, *words):
    assert main(["models", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_list_is_the_catalogue(capsys):
    """Usable networks with their numbers, our own first; the others only when asked for."""
    assert main(["models"]) == 0
    printed = capsys.readouterr()
    lines = [line.split() for line in printed.out.splitlines()]
    rows = {words[0]: words[1:] for words in lines[1:]}
    found = described(capsys)
    usable = [row for row in found["networks"] if "reason" not in row]
    assert list(rows) == [row["name"] for row in usable]
    assert lines[1][0] == usable[0]["name"] and ":" not in lines[1][0]
    # 25,557,032 parameters with 1,000 outputs; the multiply–adds as torchvision publishes them.
    resnet = ["23,510,081", "4.09", "224×224"]
    assert rows["torchvision:resnet50"][:3] == resnet
    assert rows["torchvision:resnet50"][5:] == "res-t1, res-t2, res-t3, res-t4, res-t5".split()
    refused = len(found["networks"]) - len(usable)
    assert (f"{refused} more can not be used" in printed.err) == (refused > 0)
    assert found["models"] == [row["name"] for row in found["networks"]]


def test_a_row_is_what_the_network_itself_says(capsys):
    [row] = described(capsys, "timm:mobilenetv2_10?")["networks"]
    one = described(capsys, "timm:mobilenetv2_100")
    for key in ("name", "parameters", "macs", "input"):
        assert row[key] == one[key]
    assert row["cuts"] == len(one["cuts"])
    assert row["blocks"] == sum(cut["block"] for cut in one["cuts"])


def test_patterns_show_all_that_fit(capsys):
    found = described(capsys, "*:densenet1?1")["networks"]
    names = ["densenet121", "densenet161"]
    expected = [f"{source}:{name}" for source in ("torchvision", "timm") for name in names]
    assert [row["name"] for row in found] == expected
    assert found[0]["presets"] == ["dens-t1", "dens-t2", "dens-t3"] and found[1]["presets"] == []
    assert main(["models", "densenet1?1"]) == 0  # what stands before ":" may be left out
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == expected


def test_those_that_can_not_be_used_stand_last_with_the_reason(capsys, monkeypatch):
    from layerwise.models import catalogue
    from layerwise.models.catalogue import Catalogue, Entry, installed

    entries = (Entry("timm:odd", reason="not traceable"), Entry("timm:good", 5, 7, 3, 8, 8, 2, 1))
    monkeypatch.setattr(catalogue, "read", lambda: Catalogue(entries, installed()))
    for words in (["models", "--all"], ["models", "timm:*"]):
        assert main(words) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[1].split() == ["timm:good", "5", "0.00", "8×8", "2", "1"]
        assert lines[3:] == ["can not be used  why", "timm:odd         not traceable"]
    assert main(["models"]) == 0
    printed = capsys.readouterr()
    assert "odd" not in printed.out and "1 more can not be used" in printed.err
    assert {"name": "timm:odd", "reason": "not traceable"} in described(capsys)["networks"]


def test_another_timm_is_said_in_one_line(capsys, monkeypatch):
    from layerwise.models import catalogue

    versions = catalogue.installed() | {"timm": "99.0"}
    monkeypatch.setattr(catalogue, "installed", lambda: versions)
    monkeypatch.setattr(catalogue, "names", lambda: ["lenet5", "timm:made_tomorrow"])
    assert main(["models"]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1].split() == ["timm:made_tomorrow", *"–––––"]
    assert "(installed: 99.0)" in printed.err and "1 are not in the table" in printed.err


def test_the_list_needs_no_torch():
    """It answers at once: neither torch nor timm is imported."""
    code = (
        "import sys\n"
        "from layerwise.cli.main import main\n"
        "code = main(['models', '--all'])\n"
        "sys.exit(code or bool({'torch', 'timm', 'pandas', 'numpy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "lenet5" in done.stdout


def test_presets_are_marked_at_their_cuts(capsys):
    assert main(["models", "timm:densenet121", "--cuts"]) == 0
    lines = capsys.readouterr().out.splitlines()
    head = "  presets        dens-t1 = features.transition1, dens-t2 = features.transition2, "
    assert lines[5] == head + "dens-t3 = features.transition3"
    marked = {line.split()[0]: line.split()[-1] for line in lines[8:] if "dens-t" in line}
    assert marked == {f"features.transition{n}": f"dens-t{n}" for n in (1, 2, 3)}


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
    assert lines[1] == "  parameters     34,635,761 (with 1 output)"
    assert lines[4] == "  cuts           7, of which 5 are ends of blocks"
    heading, first = lines[6], lines[7]
    assert first.split() == ["conv1", "•", "6", "1", "456", "21,780,000"]
    assert heading.index("block") == first.index("•")
    assert len({len(line) for line in lines[6:]}) == 1  # the last column ends in one line
    assert main(["models", "lenet5"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["lenet"], "--model lenet: no such network; near to it are lenet5"),
        (["timm:mobilenetv2_10"], "timm:mobilenetv2_100"),
        (["lenet5", "--model-arg", "depth"], "--model-arg 'depth' is not KEY=VALUE"),
        (["lenet5", "--model-arg", "depth=3"], "--model-arg depth=3"),
        (["lenet5", "--model-arg", "in_chans=3"], "--model-arg in_chans"),
        (["lenet5", "--image-size", "8"], "--image-size"),
        (["lemet?"], "no network's name fits 'lemet?'; near to it are lenet5"),
        (["timm:res*", "--labels", "3"], "--labels is for one network"),
        (["--cuts"], "--cuts is for one network"),
    ],
)
def test_what_is_wrong_is_named(capsys, words, named):
    assert main(["models", *words]) == 2
    printed = capsys.readouterr()
    assert named in printed.err and printed.out == ""
