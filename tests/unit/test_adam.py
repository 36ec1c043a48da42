"""The optimiser: PyTorch's AdamW, and where it was when it goes on."""

import copy

import torch

from nefgpt.base.adam import Adam


def gradients(model: torch.nn.Module, i: int) -> None:
    draw = torch.Generator().manual_seed(i)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=draw)


def test_it_is_adamw_and_goes_on_where_it_was():
    model = torch.nn.Linear(5, 3)
    theirs, again = copy.deepcopy(model), copy.deepcopy(model)
    reference = torch.optim.AdamW(
        [
            {"params": [theirs.weight], "weight_decay": 0.3},
            {"params": [theirs.bias], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.95),
    )

    def ours(model: torch.nn.Linear) -> Adam:
        return Adam([([model.weight], 0.3), ([model.bias], 0.0)], betas=(0.9, 0.95))

    optimiser = ours(model)
    for i in range(20):
        rate = 0.01 * (i + 1)
        if i == 10:
            again.load_state_dict(copy.deepcopy(model.state_dict()))
            resumed = ours(again)
            resumed.resume(copy.deepcopy(optimiser.state()))
        gradients(model, i)
        gradients(theirs, i)
        optimiser.step(rate)
        for group in reference.param_groups:
            group["lr"] = rate
        reference.step()
        if i >= 10:
            gradients(again, i)
            resumed.step(rate)
    for name, value in model.named_parameters():
        torch.testing.assert_close(value, theirs.get_parameter(name))
        assert torch.equal(value, again.get_parameter(name))
    optimiser.clear()
    assert all(p.grad is None for p in model.parameters())
