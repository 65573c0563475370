"""Which calls are products, and which of their factors are weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.bf16 import Policy, emulate
from leandnn.blocksparse import BlockSparseConv2d, BlockSparseLinear, Pattern
from leandnn.kernels import round_to

PAPER = Policy.paper()


def is_bf16(x: Tensor) -> bool:
    return torch.equal(x, round_to(x.detach(), "bf16"))


def q(x: Tensor) -> Tensor:
    return round_to(x.detach(), "bf16")


@pytest.mark.parametrize(
    "call",
    [
        lambda c, a, b: torch.addmm(c, a, b),
        lambda c, a, b: torch.addmm(c, mat1=a, mat2=b),
        lambda c, a, b: torch.addmm(input=c, mat1=a, mat2=b),
        lambda c, a, b: c.addmm(a, b),
    ],
)
def test_addmm_rounds_factors_and_sum_but_not_what_is_added(call):
    c, a, b = torch.randn(3, 4), torch.randn(3, 5), torch.randn(5, 4)
    with emulate(nn.Identity(), PAPER):
        y = call(c, a, b)
    assert torch.equal(y, q(torch.addmm(c, q(a), q(b))))


def test_baddbmm_keeps_its_scalars():
    c, a, b = torch.randn(2, 3, 4), torch.randn(2, 3, 5), torch.randn(2, 5, 4)
    with emulate(nn.Identity(), PAPER):
        y = torch.baddbmm(c, a, b, beta=0.5, alpha=2)
    assert torch.equal(y, q(torch.baddbmm(c, q(a), q(b), beta=0.5, alpha=2)))


@pytest.mark.parametrize("together", [False, True])
def test_einsum_of_two_factors_is_a_product(together: bool):
    layer, x = nn.Linear(4, 3), torch.randn(2, 5, 4, requires_grad=True)
    with emulate(layer, PAPER):
        factors = (x, layer.weight)
        y = torch.einsum(
            "bti,oi->bto", list(factors) if together else factors[0], *factors[1:][: not together]
        )
        same = x @ layer.weight.t()
    assert torch.equal(y, same)
    y.backward(torch.randn_like(y))
    assert is_bf16(x.grad)
    assert not is_bf16(layer.weight.grad)


def test_einsum_of_one_factor_is_none():
    x = torch.randn(3, 4)
    with emulate(nn.Identity(), PAPER):
        assert torch.equal(torch.einsum("ij->ji", x), x.t())


def test_einsum_of_three_factors_is_refused():
    with emulate(nn.Identity(), PAPER), pytest.raises(NotImplementedError, match="not of 3"):
        torch.einsum("ij,jk,kl->il", *(torch.ones(2, 2),) * 3)


def test_integers_are_multiplied_as_they_are():
    a = torch.full((2, 2), 257)
    with emulate(nn.Identity(), PAPER):
        assert torch.equal(a @ a, torch.full((2, 2), 2 * 257**2))


def test_a_result_written_to_out_is_rounded():
    a, out = torch.randn(3, 3), torch.empty(3, 3)
    with emulate(nn.Identity(), PAPER):
        y = torch.mm(a, a, out=out)
    assert y is out
    assert torch.equal(out, q(q(a) @ q(a)))


def test_the_weight_gradient_role_rounds_what_one_product_makes():
    policy = Policy(weights="bf16", data_gradients="bf16", weight_gradients="bf16")
    layer, x = nn.Linear(5, 3), torch.randn(4, 5)
    conv, image = nn.Conv2d(2, 3, 3), torch.randn(2, 2, 6, 6)
    with emulate(nn.ModuleList([layer, conv]), policy):
        y = layer(x)
        z = conv(image)
    dy, dz = torch.randn_like(y), torch.randn_like(z)
    y.backward(dy)
    z.backward(dz)
    assert torch.equal(layer.weight.grad, q(q(dy).t().mm(x)))
    assert torch.equal(layer.bias.grad, q(dy).sum(0)), "the bias's stays FP32"
    assert is_bf16(conv.weight.grad)


def test_each_role_stands_alone():
    layer, x = nn.Linear(6, 5, bias=False), torch.randn(4, 6)
    w = layer.weight.detach()
    expected = {
        "weights": F.linear(x, q(w)),
        "activations_in": F.linear(q(x), w),
        "activations_out": q(F.linear(x, w)),
        "data_gradients": F.linear(x, w),
    }
    for role, y in expected.items():
        with emulate(layer, Policy(**{role: "bf16"})):
            assert torch.equal(layer(x), y), role


@pytest.mark.parametrize("dims", [(5,), (3, 5), (2, 3, 5), (0, 5)])
def test_linear_takes_inputs_of_any_dimensions(dims):
    layer, x = nn.Linear(5, 4), torch.randn(dims, requires_grad=True)
    with emulate(layer, PAPER):
        y = layer(x)
    y.sum().backward()
    assert y.shape == (*dims[:-1], 4)
    assert x.grad.shape == x.shape
    assert torch.allclose(y, F.linear(x, layer.weight, layer.bias), atol=0.05)


@pytest.mark.parametrize("policy", [PAPER, Policy.stochastic()], ids=["paper", "stochastic"])
def test_an_empty_batch_goes_through_and_back(policy: Policy):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    x = torch.empty(0, 3, 4, 4, requires_grad=True)
    with emulate(net, policy):
        y = net(x)
    y.sum().backward()
    assert y.shape == (0, 2)
    assert x.grad.shape == x.shape
    assert all(not p.grad.any() for p in net.parameters())


def test_linear_as_one_node_has_the_bits_of_three_nodes():
    layer, x = nn.Linear(7, 5), torch.randn(6, 7, requires_grad=True)
    dy = torch.randn(6, 5)
    results = []
    for call in (lambda: layer(x), lambda: torch.addmm(layer.bias, x, layer.weight.t())):
        layer.zero_grad()
        x.grad = None
        with emulate(layer, PAPER):
            y = call()
        y.backward(dy)
        results.append((y, x.grad, layer.weight.grad.clone(), layer.bias.grad.clone()))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_what_needs_no_gradient_gets_none():
    layer, x = nn.Linear(4, 3), torch.randn(2, 4)
    layer.bias.requires_grad_(False)
    with emulate(layer, PAPER):
        layer(x).sum().backward()
    assert layer.bias.grad is None
    assert layer.weight.grad is not None


def test_backward_inside_the_block_gives_the_same_gradients():
    layer, x, dy = nn.Linear(6, 5), torch.randn(4, 6, requires_grad=True), torch.randn(4, 5)
    with emulate(layer, PAPER):
        inside = torch.autograd.grad(layer(x), (x, layer.weight), dy)
        y = layer(x)
    outside = torch.autograd.grad(y, (x, layer.weight), dy)
    assert all(torch.equal(a, b) for a, b in zip(inside, outside, strict=True))


def test_the_papers_policy_leaves_embedding_tables_alone():
    table = nn.Embedding(10, 4)
    with emulate(table, PAPER):
        read = table(torch.tensor([1, 3]))
    assert torch.equal(read, table.weight[[1, 3]])


@pytest.mark.parametrize("call", [F.embedding, lambda i, w: torch.embedding(w, i)])
def test_rows_of_a_table_are_rounded_as_they_are_read(call):
    table = nn.Embedding(10, 4)
    with emulate(table, Policy(embeddings="bf16")):
        read = call(torch.tensor([[1, 3], [3, 0]]), table.weight)
    assert torch.equal(read, q(table.weight)[torch.tensor([[1, 3], [3, 0]])])
    dy = torch.randn_like(read)
    read.backward(dy)
    assert torch.equal(table.weight.grad[3], dy[0, 1] + dy[1, 0]), "the gradient is summed in FP32"


@pytest.mark.parametrize("sparse", [False, True])
def test_a_tables_gradient_is_a_weight_gradient(sparse: bool):
    table = nn.Embedding(10, 4, sparse=sparse)
    with emulate(table, Policy(weight_gradients="bf16")):
        read = table(torch.tensor([1, 3, 3]))
    dy = torch.randn_like(read)
    read.backward(dy)
    found = table.weight.grad.to_dense() if sparse else table.weight.grad
    assert torch.equal(found[3], q(dy[1] + dy[2]))


def test_a_bag_sums_rounded_rows_in_fp32():
    bag = nn.EmbeddingBag(10, 4, mode="sum")
    with emulate(bag, Policy(embeddings="bf16")):
        read = bag(torch.tensor([[1, 3]]))
    assert torch.equal(read[0], q(bag.weight[1]) + q(bag.weight[3]))


def test_a_bag_with_scales_is_refused():
    with emulate(nn.Identity(), PAPER), pytest.raises(NotImplementedError, match="per_sample_weights"):
        F.embedding_bag(
            torch.tensor([[0]]), torch.ones(2, 2), per_sample_weights=torch.ones(1, 1), mode="sum"
        )


def test_block_sparse_layers_round_as_dense_ones():
    mask = torch.zeros(16, 32, dtype=torch.bool)
    mask[:8, :16] = mask[8:, 16:] = True
    layer = BlockSparseLinear(Pattern.from_mask(mask))
    dense, dy = layer.to_dense(), torch.randn(5, 16)
    x = torch.randn(5, 32)
    outs = []
    for module, weight in ((layer, layer.values), (dense, dense.weight)):
        own = x.clone().requires_grad_()
        with emulate(module, PAPER):
            y = module(own)
        y.backward(dy)
        outs.append((y, own.grad, weight.grad))
    (y, dx, dw), (y_dense, dx_dense, dw_dense) = outs
    assert is_bf16(y)
    assert is_bf16(dx)
    assert torch.allclose(y, y_dense, rtol=2.0**-7, atol=1e-6)
    assert torch.allclose(dx, dx_dense, rtol=2.0**-7, atol=1e-6)
    assert torch.allclose(dw, layer.pattern.gather(dw_dense), rtol=1e-5, atol=1e-6)
    assert not is_bf16(dw)


def test_a_block_sparse_convolution_is_rounded_too():
    layer = BlockSparseConv2d(Pattern.from_mask(torch.ones(8, 2 * 9, dtype=torch.bool)), 2, 3, padding=1)
    x = torch.randn(2, 2, 6, 6)
    plain = layer(x)
    with emulate(layer, PAPER):
        y = layer(x)
    assert is_bf16(y)
    assert not is_bf16(plain)
    assert torch.allclose(y, plain, rtol=0.05, atol=0.05)
