import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from layerwise.errors import LayerwiseError, ModelError, WeightsError
from layerwise.models.registry import create
from layerwise.training.network import TransferNetwork, build
from layerwise.training.transfer import Transfer

LENET = ["conv1", "conv2", "conv3", "fc1", "fc2"]
SOURCE = create("lenet5", outputs=5, image_size=32, seed=77).module.state_dict()
SOURCE = {name: value for name, value in SOURCE.items() if not name.startswith("fc3")}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small pictures: threads only wait for each other
    yield
    torch.set_num_threads(threads)


def lenet(transfer: Transfer, seed: int = 0, outputs: int = 3) -> TransferNetwork:
    return build(
        transfer, model="lenet5", outputs=outputs, seed=seed, image_size=32, source_weights=SOURCE
    )


def batch(size: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (6, size, size, 3), dtype=torch.uint8, generator=generator)


def learn(network: TransferNetwork, steps: int = 3) -> None:
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9, weight_decay=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        network.train()(batch()).square().mean().backward()
        optimizer.step()


# The table of the design: each row, and which of LeNet's layers are copied, frozen and kept.
PAPERS = [
    ("random initialisation", Transfer(), 0, 0, 5),
    ("transfer learning", Transfer("w"), 5, 0, 5),
    ("train some layers", Transfer("w", freeze="conv2"), 5, 2, 5),
    ("fixed feature extractor", Transfer("w", freeze="all"), 5, 5, 5),
    ("AnB", Transfer("w", copy="conv3", freeze="conv3"), 3, 3, 5),
    ("AnB+", Transfer("w", copy="conv3"), 3, 0, 5),
    ("random filters", Transfer("untrained", copy="conv2", freeze="conv2"), 0, 2, 5),
    ("truncated", Transfer("w", keep="conv3", copy="conv3"), 3, 0, 3),
    ("truncated, frozen", Transfer("w", keep="conv3", freeze="all"), 3, 3, 3),
    ("fully connected", Transfer("w", keep="conv3", freeze="all", head="connected"), 3, 3, 3),
]


@pytest.mark.parametrize(
    ("transfer", "copied", "frozen", "kept"), [p[1:] for p in PAPERS], ids=[p[0] for p in PAPERS]
)
def test_every_experiment_of_the_papers_is_one_transfer(
    transfer: Transfer, copied: int, frozen: int, kept: int
) -> None:
    network = lenet(transfer)
    before = {name: value.clone() for name, value in network.weights().items()}
    layers = LENET[:kept] + (["fc3"] if kept == 5 else ["head"])
    assert list(dict.fromkeys(name.split(".")[0] for name in before)) == layers
    for index, layer in enumerate(LENET[:kept]):
        same = torch.equal(before[f"{layer}.weight"], SOURCE[f"{layer}.weight"])
        assert same == (index < copied), layer

    assert network(batch()).shape == (6, 3)
    learn(network)
    after = network.weights()
    for index, layer in enumerate(layers):
        for name in (n for n in after if n.startswith(f"{layer}.")):
            assert torch.equal(after[name], before[name]) == (index < frozen), name

    learning = [p for group in network.learning_layers() for p in group.parameters]
    assert {id(p) for p in learning} == {id(p) for p in network.parameters() if p.requires_grad}
    assert all(p.grad is not None for p in learning)


def test_learning_layers_go_down_from_the_head() -> None:
    groups = lenet(Transfer("w", copy="conv3", freeze="conv1")).learning_layers()
    assert [(g.name, g.depth, g.copied) for g in groups] == [
        *(("head", 0, False), ("fc2", 1, False), ("fc1", 2, False)),
        *(("conv3", 3, True), ("conv2", 4, True)),
    ]
    groups = lenet(Transfer("w", keep="conv2")).learning_layers()
    assert [(g.name, g.depth, g.copied) for g in groups] == [
        ("head", 0, False),
        ("conv2", 1, True),
        ("conv1", 2, True),
    ]


def test_frozen_statistics_keep_their_bits_and_others_move() -> None:
    source = create("timm:resnet18", outputs=4, image_size=32, seed=5).module.state_dict()
    network = build(
        Transfer("w", freeze="layer2.0"),
        model="timm:resnet18",
        outputs=2,
        seed=0,
        image_size=32,
        source_weights=source,
    )
    before = {name: value.clone() for name, value in network.weights().items()}
    learn(network)
    after = network.weights()
    frozen = {n for n in before if n.startswith(("conv1", "bn1", "layer1", "layer2.0"))}
    assert any(name.endswith("running_var") for name in frozen)
    for name in before:
        same = torch.equal(before[name], after[name])
        assert same == (name in frozen), name
    # Under the network's own names: timm takes them as they are.
    create("timm:resnet18", outputs=2, image_size=32).module.load_state_dict(after)


def test_a_seed_fixes_what_starts_at_random() -> None:
    one, two, other = (lenet(Transfer("w", copy="conv1"), seed=s).weights() for s in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert torch.equal(one["conv1.weight"], other["conv1.weight"])
    assert not torch.equal(one["fc3.weight"], other["fc3.weight"])


def test_a_classifier_starts_as_it_is_told() -> None:
    """By default small above copied layers alone; small is 0.01 in deviation, without a bias."""
    nothing, copied = Transfer(copy="none"), Transfer("w", copy="conv1")
    own = create("lenet5", outputs=3, seed=0, image_size=32).module.state_dict()["fc3.weight"]

    def start(transfer: Transfer) -> tuple[torch.Tensor, float]:
        weights = lenet(transfer).weights()
        return weights["fc3.weight"], float(weights["fc3.bias"].abs().max())

    for transfer, is_own in (
        (nothing, True),
        (replace(nothing, classifier="small"), False),
        (copied, False),
        (replace(copied, classifier="own"), True),
    ):
        weight, bias = start(transfer)
        assert torch.equal(weight, own) == is_own
        assert (bias == 0) == (not is_own)
        assert is_own or 0.008 < float(weight.std()) < 0.012
    assert "classifier" not in copied.to_dict()
    assert Transfer.from_dict(replace(copied, classifier="own").to_dict()).classifier == "own"


def test_parts_at_any_cut_are_the_network() -> None:
    images = batch()
    for transfer in (Transfer("w", freeze="conv2"), Transfer("w", keep="conv3", freeze="all")):
        network = lenet(transfer).eval()
        for cut in [c.name for c in network.cuts]:
            below, above = network.parts(cut)
            with torch.no_grad():
                assert torch.equal(above(below(network.pixels(images))), network(images)), cut
        frozen = network.frozen_part()
        assert frozen is not None
        with torch.no_grad():
            assert torch.equal(network.top(frozen(images)), network(images))
    assert frozen(images).shape == (6, 120)  # pooled already: small on disk
    assert network.place == "conv3, pooled"


def test_a_fully_connected_head_is_marcelinos() -> None:
    """Code 3, layer by layer: flatten, 256, ReLU, dropout ½, and a layer of as many outputs."""
    network = lenet(Transfer("w", keep="conv2", freeze="all", head="connected")).eval()
    weights = network.weights()
    frozen = network.frozen_part()
    assert frozen is not None and network.place == "conv2"
    maps = frozen(batch())
    assert maps.shape == (6, 16, 10, 10)  # not pooled: the head looks at places
    flat = maps.reshape(6, 1600).double()
    hidden = flat @ weights["head.hidden.weight"].double().T + weights["head.hidden.bias"].double()
    hidden = hidden.clamp(min=0)
    logits = hidden @ weights["head.linear.weight"].double().T + weights["head.linear.bias"]
    with torch.no_grad():
        torch.testing.assert_close(network(batch()), logits.float())
    assert network.classifier == "head.linear"

    head = network.top.get_submodule("head").train()
    seen: list[Tensor] = []
    head.get_submodule("linear").register_forward_hook(lambda _m, given, _o: seen.append(given[0]))
    torch.manual_seed(0)
    head(maps.repeat(50, 1, 1, 1))
    living = (hidden > 0).repeat(50, 1)
    kept = seen[0][living] != 0
    assert kept.double().mean() == pytest.approx(0.5, abs=0.02)
    torch.testing.assert_close(
        seen[0][living][kept], 2 * hidden.float().repeat(50, 1)[living][kept]
    )


def test_the_head_alone_comes_back() -> None:
    for head in ("linear", "connected"):
        transfer = Transfer("w", keep="conv2", freeze="all", head=head)
        one, two = (lenet(transfer, seed=seed).eval() for seed in (1, 2))
        assert not torch.equal(one(batch()), two(batch()))
        two.load_head({n: v for n, v in one.weights().items() if n.startswith("head.")})
        assert torch.equal(one(batch()), two(batch()))


def test_a_cut_has_one_name_whatever_it_is_called() -> None:
    """What is cached below a cut is found again by whoever asks for the same place."""
    places = [
        lenet(transfer).place
        for transfer in (
            *(Transfer("w", freeze="all"), Transfer("w", freeze="fc2")),
            *(Transfer("w", keep="conv3", freeze=c) for c in ("all", "conv3")),
            *(Transfer("w", keep="conv3", freeze=c, head="connected") for c in ("all", "conv3")),
            *(Transfer("w", freeze="conv3"), Transfer("w", keep="fc1", freeze="conv3")),
            Transfer("w"),
        )
    ]
    assert places == ["fc2", "fc2", "conv3, pooled", "conv3, pooled", *["conv3"] * 4, ""]


def test_weights_come_back() -> None:
    one, two = (lenet(Transfer("w", keep="conv3"), seed=s) for s in (1, 2))
    two.load(one.weights())
    assert torch.equal(one(batch()), two(batch()))
    with pytest.raises(WeightsError, match="another network"):
        two.load(lenet(Transfer("w")).weights())
    with pytest.raises(WeightsError, match="another network"):
        lenet(Transfer(), outputs=4).load(lenet(Transfer()).weights())


@pytest.mark.parametrize(
    ("transfer", "words"),
    [
        (Transfer("w", keep="conv2", copy="conv3"), "copy = 'conv3' lies above keep"),
        (Transfer("w", keep="conv2", freeze="conv3"), "freeze = 'conv3' lies above keep"),
        (Transfer("w", copy="conv2", freeze="conv3"), "never learn.*untrained"),
        (Transfer("w", copy="conv2", freeze="all"), "never learn"),
        (Transfer("none", freeze="conv3"), "without a source"),
        (Transfer("w", freeze="conv7"), "no layer 'conv7'"),
        (Transfer("w", keep="none"), "leaves no network"),
        (Transfer("w", head="connected"), "head = 'connected' .* name a cut with keep"),
        (Transfer("w", keep="fc3"), "network's output; the next one below is 'fc2'"),
    ],
)
def test_contradictions_are_refused_with_a_reason(transfer: Transfer, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        lenet(transfer)


def test_a_source_without_its_head_freezes_what_it_has() -> None:
    part = {n: v for n, v in SOURCE.items() if not n.startswith("fc")}
    options = {"model": "lenet5", "outputs": 2, "seed": 0, "image_size": 32}
    network = build(Transfer("w", freeze="all"), source_weights=part, **options)
    assert [(g.name, g.copied) for g in network.learning_layers()] == [
        *(("head", False), ("fc2", False), ("fc1", False)),
    ]
    with pytest.raises(ModelError, match="does not have"):
        build(Transfer("w", freeze="fc1"), source_weights=part, **options)
    with pytest.raises(ModelError, match="--weights"):
        build(Transfer("w"), **options)


def test_a_transfer_is_json_and_words() -> None:
    transfer = Transfer("w", keep="conv3", copy="conv3")
    assert Transfer.from_dict(json.loads(json.dumps(transfer.to_dict()))) == transfer
    with pytest.raises(LayerwiseError, match="frozen"):
        Transfer.from_dict({"frozen": "conv1"})
    names = [transfer.name for _, transfer, *_ in PAPERS]
    assert len(set(names)) == len(names)
    assert names[1:4] == ["fine-tuned", "frozen to conv2", "frozen"]
    assert names[7] == "truncated at conv3, fine-tuned"
    assert names[9] == "truncated at conv3, frozen, fully connected"
    # As written before there was a choice of heads: runs and results of then keep their keys.
    assert set(transfer.to_dict()) == {"source", "keep", "copy", "freeze"}
    connected = PAPERS[9][1]
    assert connected.to_dict()["head"] == "connected"
    assert Transfer.from_dict(connected.to_dict()) == connected
    with pytest.raises(LayerwiseError, match="head is 'svm'; it must be one of linear, connected"):
        Transfer.from_dict({"head": "svm"})
