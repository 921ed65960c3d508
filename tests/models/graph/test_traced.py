"""A network is traced once, and again where it has changed."""

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from layerwise.models.cuts import cut_points, homes, output_shape, split, tap, truncate
from layerwise.models.graph import measure
from layerwise.models.graph import traced as module
from layerwise.models.graph.traced import traced


class Network(nn.Module):
    """A parameter, a buffer and an attribute that its own code reads; a dropout by its mode."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.second, self.fc = nn.Sequential(nn.Conv2d(4, 4, 1)), nn.Linear(4, 2)
        self.gamma = nn.Parameter(torch.full((4, 1, 1), 2.0))
        self.register_buffer("offset", torch.ones(1))
        self.twice = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x))
        x = self.second(x) * self.gamma + self.offset.sqrt()  # a constant by the time of the trace
        x = functional.dropout(x + x if self.twice else x, 0.5, self.training)
        return self.fc(x.mean((2, 3)))


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The networks that were really traced."""
    seen: list[nn.Module] = []
    real = module.trace

    def noted(model: nn.Module) -> object:
        seen.append(model)
        return real(model)

    monkeypatch.setattr(module, "trace", noted)
    return seen


def parts_are_the_whole(model: nn.Module) -> bool:
    """Whether the parts together compute what the network does."""
    x = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    bottom, top = split(model.eval(), "norm")
    with torch.no_grad():
        return torch.equal(top(bottom(x)), model(x))


def test_who_ever_asks_one_trace_answers(traces: list[nn.Module]) -> None:
    model, other = Network(), Network()
    assert output_shape(model, (3, 4, 4)) == (2, 2)
    names = [cut.name for cut in cut_points(model, (3, 4, 4))]
    assert names == ["first", "norm", "second"] and {*homes(model).values()} == {*names, None}
    tap(model, names), truncate(model, "norm")
    assert parts_are_the_whole(model) and traces == [model]
    assert parts_are_the_whole(other) and traces == [model, other]


def test_shapes_are_found_once_for_each_size(monkeypatch: pytest.MonkeyPatch) -> None:
    model, sizes, real = Network(), [], measure._propagated

    def noted(section: nn.Module, size: tuple[int, int, int]) -> object:
        sizes.append(size)
        return real(section, size)

    monkeypatch.setattr(measure, "_propagated", noted)
    small, large, again = (cut_points(model, (3, side, side)) for side in (4, 6, 4))
    assert sizes == [(3, 4, 4), (3, 6, 6)] and again == small
    assert [cut.macs for cut in large] == [36 * n for n in (12, 12, 12 + 16)]  # 1×1 convolutions
    assert [cut.macs for cut in small] == [16 * n for n in (12, 12, 12 + 16)]


def test_other_weights_and_training_are_no_change(traces: list[nn.Module]) -> None:
    model = Network()
    assert parts_are_the_whole(model)
    state = {name: value + 1 for name, value in Network().state_dict().items() if name != "offset"}
    model.load_state_dict(state, strict=False)
    assert parts_are_the_whole(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()(torch.randn(4, 3, 4, 4)).square().sum().backward()
    optimizer.step()
    model.requires_grad_(False).to("cpu").zero_grad()
    assert parts_are_the_whole(model) and traces == [model]


def exchange_a_layer(model: Network) -> None:
    model.second[0] = nn.Conv2d(4, 4, 3, padding=1)


def exchange_a_parameter(model: Network) -> None:
    model.gamma = nn.Parameter(torch.full((4, 1, 1), 3.0))


def exchange_a_parameter_of_a_layer(model: Network) -> None:
    model.fc.bias = None


def change_an_attribute(model: Network) -> None:
    model.twice = True


def change_the_buffer_that_is_read(model: Network) -> None:
    model.load_state_dict(model.state_dict() | {"offset": torch.full((1,), 9.0)})


def exchange_buffers(model: Network) -> None:
    model.double().float()


def hook(model: Network) -> None:
    model.second.register_forward_hook(lambda _module, _inputs, out: 2 * out)


@pytest.mark.parametrize(
    "change",
    [
        exchange_a_layer,
        exchange_a_parameter,
        exchange_a_parameter_of_a_layer,
        change_an_attribute,
        change_the_buffer_that_is_read,
        exchange_buffers,
        hook,
    ],
)
def test_what_has_changed_is_traced_again(
    change: Callable[[Network], None], traces: list[nn.Module]
) -> None:
    model = Network()
    assert parts_are_the_whole(model) and parts_are_the_whole(model) and len(traces) == 1
    change(model)
    assert parts_are_the_whole(model) and len(traces) == 2
    assert parts_are_the_whole(model) and len(traces) == 2
    own = dict(model.named_parameters())
    for part in split(model, "norm"):
        assert all(parameter is own[name] for name, parameter in part.named_parameters())


def test_modes_are_those_of_now_and_of_each_part_alone() -> None:
    model = Network()
    bottom, top = split(model.train(), "norm")
    assert [part.training for part in (bottom, top, top.by_mode_0)] == [True] * 3
    top.eval()
    again = split(model, "norm")[1]
    x = torch.randn(2, 4, 4, 4)
    with torch.no_grad():
        assert again.by_mode_0.training and not torch.equal(again(x), again(x))
        assert torch.equal(top(x), top(x))
    late = split(model.eval(), "norm")[1]
    assert not late.training and not late.by_mode_0.training and again.by_mode_0.training


def test_it_is_forgotten_with_its_network() -> None:
    model = Network()
    found, gone = weakref.ref(traced(model)), weakref.ref(model)
    assert found() is traced(model)
    del model
    gc.collect()
    assert gone() is None and found() is None
