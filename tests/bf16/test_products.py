"""Which calls are products, which of their factors are weights, and what is refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from leandnn.bf16 import Policy, emulate
from leandnn.bf16.mode import EmulationMode
from leandnn.blocksparse import BlockSparseConv2d, BlockSparseLinear, Pattern
from leandnn.errors import LeandnnError
from leandnn.kernels import round_to

PAPER = Policy.paper()


def is_bf16(x: Tensor) -> bool:
    return torch.equal(x, round_to(x.detach(), "bf16"))


def q(x: Tensor) -> Tensor:
    return round_to(x.detach(), "bf16")


# --- factors and results -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda c, a, b: torch.addmm(c, a, b),
        lambda c, a, b: torch.addmm(c, mat1=a, mat2=b),
        lambda c, a, b: torch.addmm(input=c, mat1=a, mat2=b),
        lambda c, a, b: c.addmm(a, b),
    ],
)
def test_addmm_rounds_its_factors_and_its_sum_but_not_what_is_added(call):
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


def test_linear_as_one_node_gives_the_bits_of_the_three_nodes_of_any_other_product():
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


# --- embeddings --------------------------------------------------------------------------------------------


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


# --- recurrent layers and attention ------------------------------------------------------------------------


def flat(out: object) -> list[Tensor]:
    if isinstance(out, Tensor):
        return [out]
    return [] if out is None else [t for part in out for t in flat(part)]


def written_out(model: nn.Module, *inputs: object) -> tuple[list[Tensor], list[Tensor]]:
    """A model's results by torch, and by the emulation's own way of writing it out, nothing rounded."""
    with EmulationMode(model, Policy.fp32(), 0):
        own = model(*inputs)
    return flat(model(*inputs)), flat(own)


SEQUENCE = torch.linspace(-1, 1, 7 * 3 * 5).sin().view(7, 3, 5)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(
    "options",
    [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False, "batch_first": True}],
    ids=["plain", "two layers, two ways", "no bias, batch first"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_recurrent_layers_written_out_are_torchs(kind, options, packed: bool):
    layer, x = kind(5, 6, **options), SEQUENCE
    if packed:
        lengths = (
            torch.tensor([2, 7, 4]) if not options.get("batch_first") else torch.tensor([3, 1, 3, 2, 2, 1, 1])
        )
        x = pack_padded_sequence(x, lengths, options.get("batch_first", False), enforce_sorted=False)
    torchs, own = written_out(layer, x)
    assert len(torchs) == len(own)
    for a, b in zip(torchs, own, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6) if a.is_floating_point() else torch.equal(a, b)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.LSTMCell(5, 6),
        lambda: nn.GRUCell(5, 6, bias=False),
        lambda: nn.RNNCell(5, 6),
        lambda: nn.RNNCell(5, 6, nonlinearity="relu"),
        lambda: nn.RNN(5, 6, nonlinearity="relu"),
    ],
)
def test_cells_written_out_are_torchs(make):
    torchs, own = written_out(make(), SEQUENCE[0])
    for a, b in zip(torchs, own, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_a_projected_lstm_written_out_is_torchs():
    torchs, own = written_out(nn.LSTM(5, 6, proj_size=4, num_layers=2, bidirectional=True), SEQUENCE)
    for a, b in zip(torchs, own, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


def test_dropout_stands_between_recurrent_layers_in_training_alone():
    layer = nn.LSTM(5, 6, num_layers=2, dropout=0.5)
    with EmulationMode(layer, Policy.fp32(), 0):
        first, second = layer(SEQUENCE)[0], layer(SEQUENCE)[0]
        layer.eval()
        kept = layer(SEQUENCE)[0]
    assert not torch.allclose(first, second, atol=1e-4)
    assert torch.allclose(kept, layer(SEQUENCE)[0], atol=1e-6)


@pytest.mark.parametrize("make", [lambda: nn.LSTM(5, 6), lambda: nn.GRU(5, 6), lambda: nn.LSTMCell(5, 6)])
def test_every_product_of_a_recurrent_layer_is_rounded(make):
    layer = make()
    x = (SEQUENCE if isinstance(layer, nn.RNNBase) else SEQUENCE[0]).clone().requires_grad_()
    plain = flat(layer(x))[0]
    with emulate(layer, PAPER):
        y = flat(layer(x))[0]
    assert 1e-6 < float((y - plain).detach().abs().max()) < 0.02
    y.sum().backward()
    assert is_bf16(x.grad)
    assert not any(is_bf16(p.grad) for p in layer.parameters() if p.grad.any())


MASKS = {
    "none": {},
    "causal": {"is_causal": True},
    "added": {"attn_mask": torch.linspace(-2, 2, 36).view(6, 6)},
    "boolean": {"attn_mask": torch.ones(6, 6, dtype=torch.bool).triu()},
    "nothing to look at": {"attn_mask": torch.ones(6, 6, dtype=torch.bool).tril(-1)},
    "scaled": {"scale": 0.3},
}


@pytest.mark.parametrize("name", MASKS)
def test_attention_written_out_is_torchs(name: str):
    x, y, z = (torch.randn(2, 4, 6, 8) for _ in range(3))
    expected = F.scaled_dot_product_attention(x, y, z, **MASKS[name])
    with EmulationMode(nn.Identity(), Policy.fp32(), 0):
        found = F.scaled_dot_product_attention(x, y, z, **MASKS[name])
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_grouped_attention_written_out_is_torchs():
    x, y = torch.randn(2, 4, 6, 8), torch.randn(2, 2, 6, 8)
    expected = F.scaled_dot_product_attention(x, y, y, enable_gqa=True)
    with EmulationMode(nn.Identity(), Policy.fp32(), 0):
        assert torch.allclose(F.scaled_dot_product_attention(x, y, y, enable_gqa=True), expected, atol=1e-5)


def test_attention_is_rounded_as_the_same_products_written_by_hand():
    x, y, z = (torch.randn(2, 6, 8) for _ in range(3))
    with emulate(nn.Identity(), PAPER):
        found = F.scaled_dot_product_attention(x, y, z)
        scores = torch.matmul(x, y.transpose(1, 2)) * 8**-0.5
        by_hand = torch.matmul(torch.softmax(scores, -1), z)
    assert torch.equal(found, by_hand)
    assert is_bf16(found)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.MultiheadAttention(8, 2, add_bias_kv=True, add_zero_attn=True),
        lambda: nn.MultiheadAttention(8, 2, kdim=8, vdim=8, bias=False),
    ],
)
def test_multi_head_attention_written_out_is_torchs(make, train: bool):
    x = torch.randn(6, 3, 8)
    torchs, own = written_out(make().train(train), x, x, x)
    for a, b in zip(torchs, own, strict=True):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("train", [True, False])
def test_torchs_transformer_runs_with_every_product_rounded(train: bool):
    model = nn.Transformer(8, 2, 1, 1, 16, dropout=0.0, batch_first=True).train(train)
    x = torch.randn(3, 6, 8)
    torchs, own = written_out(model, x, x)
    assert torch.allclose(torchs[0], own[0], rtol=1e-4, atol=1e-5)
    with emulate(model, PAPER):
        rounded = model(x, x)
    assert 1e-4 < float((rounded - torchs[0]).detach().abs().max()) < 0.2


# --- block-sparse layers -----------------------------------------------------------------------------------


def test_block_sparse_layers_round_as_the_dense_layers_of_the_same_weights():
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


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda x, w: F.linear(x.double(), w.double()),
        lambda x, w: x.half() @ w.t().half(),
        lambda x, w: F.conv1d(x[None].bfloat16(), w[:, :, None].bfloat16()),
        lambda x, w: torch.mm(x.to(torch.complex64), w.t().to(torch.complex64)),
        lambda x, w: F.embedding(torch.tensor([0]), w.double()),
    ],
)
def test_other_dtypes_are_refused_with_both_named(call):
    x, w = torch.randn(4, 4), torch.randn(4, 4)
    with (
        emulate(nn.Identity(), PAPER),
        pytest.raises(ValueError, match=r"torch\.(\w+), expected torch.float32"),
    ):
        call(x, w)


@pytest.mark.parametrize("call", [F.linear, lambda x, w: x @ w])
def test_autocast_inside_is_refused(call):
    with (
        emulate(nn.Identity(), PAPER),
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(ValueError, match="autocast"),
    ):
        call(torch.randn(4, 4), torch.randn(4, 4))


@pytest.mark.parametrize(
    "call",
    [
        lambda a: torch.ops.aten.mm(a, a),
        lambda a: torch.ops.aten.mm.default(a, a),
        lambda a: torch.ops.aten.linear.default(a, a),
        lambda a: a.addmm_(a, a),
        lambda a: F.bilinear(a, a, torch.ones(1, 2, 2)),
        lambda a: torch.tensordot(a, a),
        lambda a: torch.linalg.multi_dot([a, a]),
        lambda a: torch.cdist(a, a),
    ],
)
def test_products_without_a_rule_are_refused_rather_than_left_in_fp32(call):
    with emulate(nn.Identity(), PAPER), pytest.raises(NotImplementedError, match="no rule"):
        call(torch.ones(2, 2))


def test_what_is_missing_is_said_by_torch():
    with emulate(nn.Identity(), PAPER):
        for call in (F.linear, torch.matmul, F.embedding, F.embedding_bag):
            with pytest.raises(TypeError, match=r"missing|required"):
                call(torch.ones(2, 2))


def test_a_nested_emulation_is_refused_and_the_outer_one_goes_on():
    layer, x = nn.Linear(4, 4), torch.randn(2, 4)
    with emulate(layer, PAPER):
        for policy in (PAPER, Policy.fp32()):
            with pytest.raises(LeandnnError, match="inside another"), emulate(layer, policy):
                pass
        assert is_bf16(layer(x))
    with (
        emulate(layer, Policy.fp32()),
        pytest.raises(LeandnnError, match="inside another"),
        emulate(layer, PAPER),
    ):
        pass
    assert not is_bf16(layer(x))


# --- exempt layers -----------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
        self.head = nn.Linear(6, 3)
        self.scores = Scores()

    def forward(self, x: Tensor) -> Tensor:
        return self.scores(self.head(self.body(x)))


class Scores(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x @ x.t()


def roles(model: Net, policy: Policy, x: Tensor) -> dict[str, bool]:
    """Whether each layer's result came out rounded."""
    rounded = {}
    names = {"body.0": model.body[0], "body.1": model.body[1], "head": model.head, "scores": model.scores}
    handles = [
        module.register_forward_hook(lambda m, a, y, name=name: rounded.update({name: is_bf16(y)}))
        for name, module in names.items()
    ]
    with emulate(model, policy):
        model(x)
    for handle in handles:
        handle.remove()
    return rounded


@pytest.mark.parametrize(
    "exempt, fp32",
    [
        ((), set()),
        (("head",), {"head"}),
        (("body",), {"body.0", "body.1"}),
        (("body.*", "scores"), {"body.0", "body.1", "scores"}),
    ],
)
def test_exempt_modules_stay_fp32_with_all_below_them(exempt, fp32):
    found = roles(Net(), Policy(weights="bf16", activations_out="bf16", exempt=exempt), torch.randn(4, 6))
    assert {name for name, rounded in found.items() if not rounded} == fp32


def test_the_weight_of_an_exempt_module_is_exempt_in_functional_calls_too():
    model, x = Net(), torch.randn(4, 6)
    head, body = model.head.weight, model.body[0].weight

    def calls() -> list[Tensor]:
        return [F.linear(x, head), x @ head.t(), F.linear(x, body)]

    plain = calls()
    with emulate(model, Policy(weights="bf16", exempt=("head",))):
        found = calls()
    assert [torch.equal(a, b) for a, b in zip(found, plain, strict=True)] == [True, True, False]


def test_an_exempt_name_that_no_module_has_is_an_error_naming_those_there_are():
    words = r"'fc' does not exist, the model has: body, body.0"
    with pytest.raises(ValueError, match=words), emulate(Net(), Policy(weights="bf16", exempt=("fc",))):
        pass
    with emulate(nn.Identity(), PAPER):
        pass  # the failed one has left nothing behind


def test_the_model_comes_out_untouched_of_an_exception():
    model, x = Net(), torch.randn(4, 6)
    plain = model(x)
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    policy = Policy(weights="bf16", activations_out="bf16", exempt=("head",))
    with pytest.raises(RuntimeError), emulate(model, policy):
        model.head(torch.randn(4, 7))
    assert torch.equal(model(x), plain)
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert roles(model, policy, x) == {"body.0": True, "body.1": True, "head": False, "scores": True}
