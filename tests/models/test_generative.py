"""DC-GAN, SR-GAN's generator, and the pair of players whose two gradients come from one backward pass."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leandnn.bf16 import Policy, emulate
from leandnn.models.generative import (
    SLOPE,
    SPREAD,
    Adversaries,
    Discriminator,
    Generator,
    SuperResolver,
    Verdicts,
    constant,
)


def test_nets_have_their_shapes_and_ranges():
    torch.manual_seed(0)
    made = Generator(latent=16, width=8)(3 * torch.randn(4, 16))
    assert made.shape == (4, 3, 32, 32)
    assert 0.0 < float(made.detach().abs().max()) <= 1.0
    assert Discriminator(width=8)(made).shape == (4,)
    assert SuperResolver(8, 2)(torch.randn(2, 3, 16, 12)).shape == (2, 3, 32, 24)


def test_dcgan_is_built_as_its_authors_say():
    generator, discriminator = Generator(latent=16, width=8), Discriminator(width=8)
    kinds = [
        type(m) for m in generator.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
    ]
    assert kinds == [nn.ConvTranspose2d] * 4
    assert [type(m) for m in discriminator.modules() if isinstance(m, nn.Conv2d | nn.Linear)] == [
        nn.Conv2d
    ] * 4
    pools = (nn.MaxPool2d, nn.AvgPool2d)
    assert not any(isinstance(m, pools) for net in (generator, discriminator) for m in net.modules())
    # Norms in all layers but the generator's last and the discriminator's first and last.
    assert sum(isinstance(m, nn.BatchNorm2d) for m in generator.modules()) == 3
    assert sum(isinstance(m, nn.BatchNorm2d) for m in discriminator.modules()) == 2
    assert all(m.negative_slope == SLOPE for m in discriminator.modules() if isinstance(m, nn.LeakyReLU))
    assert float(Discriminator(width=64).layers[5].weight.detach().std()) == pytest.approx(SPREAD, rel=0.02)


def test_a_super_resolver_begins_at_bicubic_interpolation():
    torch.manual_seed(0)
    small = torch.rand(4, 3, 16, 16) * 2 - 1
    smooth = F.interpolate(small, scale_factor=2.0, mode="bicubic")
    torch.testing.assert_close(SuperResolver().eval()(small), smooth, rtol=0, atol=0)


class Rounds:
    """Small players, and one batch of noise and of images."""

    def __init__(self) -> None:
        torch.manual_seed(3)
        self.players = Adversaries(Generator(latent=16, width=8), Discriminator(width=8))
        self.source, self.real = torch.randn(6, 16), torch.rand(6, 3, 32, 32) * 2 - 1

    def play(self) -> Verdicts:
        """One round."""
        verdicts: Verdicts = self.players(self.source, self.real)
        return verdicts

    def gradients(self) -> dict[str, Tensor]:
        """All gradients there are; they are taken away."""
        found = {n: p.grad.clone() for n, p in self.players.named_parameters() if p.grad is not None}
        self.players.zero_grad()
        return found


def losses(verdicts: Verdicts) -> tuple[Tensor, Tensor]:
    discriminator = F.softplus(-verdicts.on_real).mean() + F.softplus(verdicts.on_made).mean()
    return discriminator, F.softplus(-verdicts.through).mean() + verdicts.made.square().mean()


@pytest.mark.parametrize("policy", [Policy.fp32(), Policy.paper()], ids=["fp32", "bf16"])
def test_one_backward_pass_gives_the_bits_of_two_separate_ones(policy: Policy):
    """The two: of L_D with the generator held out of it, and of L_G with all weights learned, D's part dropped."""
    rounds = Rounds()
    players = rounds.players
    with emulate(players, policy):
        sum(losses(rounds.play())).backward()
    together = rounds.gradients()
    assert set(together) == {name for name, _ in players.named_parameters()}

    # By hand, and one after the other.
    with emulate(players, policy):
        with torch.no_grad():
            made = players.generator(rounds.source)
        d_loss = F.softplus(-players.discriminator(rounds.real)).mean()
        d_loss = d_loss + F.softplus(players.discriminator(made)).mean()
    d_loss.backward()
    separate = rounds.gradients()
    assert all(name.startswith("discriminator.") for name in separate)
    with emulate(players, policy):
        made = players.generator(rounds.source)
        g_loss = F.softplus(-players.discriminator(made)).mean() + made.square().mean()
    g_loss.backward()
    leaked = rounds.gradients()
    assert any(name.startswith("discriminator.") for name in leaked)  # what `through` has to keep out
    separate |= {name: grad for name, grad in leaked.items() if name.startswith("generator.")}
    for name, grad in together.items():
        assert torch.equal(grad, separate[name]), name


def test_each_loss_alone_reaches_its_own_player_alone():
    rounds = Rounds()
    for which, own in ((0, "discriminator."), (1, "generator.")):
        losses(rounds.play())[which].backward()
        assert {name.split(".")[0] + "." for name in rounds.gradients()} == {own}


def test_weights_take_gradients_again_after_a_failed_round():
    rounds = Rounds()
    players = rounds.players
    fixed = players.discriminator.layers[0].bias
    fixed.requires_grad_(False)  # one that was constant beforehand stays so
    before = {name: weight.requires_grad for name, weight in players.named_parameters()}
    rounds.play()
    assert {name: weight.requires_grad for name, weight in players.named_parameters()} == before
    with pytest.raises(ZeroDivisionError), constant(players.discriminator):
        assert not any(weight.requires_grad for weight in players.discriminator.parameters())
        raise ZeroDivisionError
    assert {name: weight.requires_grad for name, weight in players.named_parameters()} == before
