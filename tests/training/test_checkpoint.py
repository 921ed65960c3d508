"""Checkpoints: bits come back, a damaged newest one is passed over."""

import torch

from layerwise.training import checkpoint


def test_the_newest_good_one_wins(tmp_path):
    for step in (1, 2, 3):
        tensors = {"w": torch.full((2,), float(step)), "n": torch.tensor(step)}
        checkpoint.save_checkpoint(tmp_path, step, tensors, {"at": step})
    assert len(list(tmp_path.iterdir())) == checkpoint.KEPT
    step, tensors, state = checkpoint.newest_checkpoint(tmp_path)
    assert (step, state, tensors["w"].tolist(), tensors["n"].item()) == (3, {"at": 3}, [3, 3], 3)
    newest = tmp_path / "step-000000003" / "tensors.safetensors"
    data = bytearray(newest.read_bytes())
    data[-1] ^= 1
    newest.write_bytes(data)
    assert checkpoint.newest_checkpoint(tmp_path)[0] == 2
    (tmp_path / "step-000000002" / "state.json").write_text("{")
    assert checkpoint.newest_checkpoint(tmp_path) is None


def test_a_part_left_by_a_kill_is_not_taken_for_a_checkpoint(tmp_path):
    checkpoint.save_checkpoint(tmp_path, 4, {"w": torch.zeros(1)}, None)
    (tmp_path / "part-000000009").mkdir()
    assert checkpoint.newest_checkpoint(tmp_path)[0] == 4


def test_an_optimiser_goes_on_with_the_same_bits():
    def make():
        torch.manual_seed(0)
        layer = torch.nn.Linear(4, 3)
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1)

    def step(layer, optimizer, seed):
        torch.manual_seed(seed)
        optimizer.zero_grad()
        layer(torch.randn(5, 4)).square().sum().backward()
        optimizer.step()

    whole, optimizer = make()
    for seed in range(6):
        step(whole, optimizer, seed)
    first, one = make()
    for seed in range(3):
        step(first, one, seed)
    second, two = make()
    second.load_state_dict(first.state_dict())
    checkpoint.unpack_optimizer(two, checkpoint.pack_optimizer(one))
    for seed in range(3, 6):
        step(second, two, seed)
    assert torch.equal(second.weight, whole.weight)
    assert torch.equal(second.bias, whole.bias)
