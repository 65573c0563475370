"""Policies: what each preset rounds, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest

from leandnn.bf16 import Policy, Rounding
from leandnn.bf16.policy import ROLES
from leandnn.kernels import Format

FLOW = ("weights", "activations_in", "activations_out", "data_gradients")


def rounded(policy: Policy) -> dict[str, tuple[str, str]]:
    """The roles that a policy rounds."""
    return {role: tuple(r) for role in ROLES if (r := policy.of(role)) is not None}


@pytest.mark.parametrize(
    "policy, fmt, mode",
    [
        (Policy.paper(), "bf16", "nearest_even"),
        (Policy.truncate(), "bf16", "toward_zero"),
        (Policy.stochastic(), "bf16", "stochastic"),
        (Policy.fp16(), "fp16", "nearest_even"),
        (Policy.fp16_loss_scaling(), "fp16", "nearest_even"),
    ],
)
def test_these_presets_round_the_papers_places_and_no_other(policy: Policy, fmt: str, mode: str):
    assert rounded(policy) == dict.fromkeys(FLOW, (fmt, mode))
    assert policy.rounds_products


def test_the_control_rounds_nothing():
    assert rounded(Policy.fp32()) == {}
    assert not Policy.fp32().rounds_products


@pytest.mark.parametrize("mode", ["nearest_even", "stochastic"])
def test_without_master_weights_the_flow_has_one_place_more(mode: str):
    policy = Policy.no_master(mode)
    assert rounded(policy) == rounded(Policy.paper()) | {"master_weights": ("bf16", mode)}


def test_rounding_master_weights_alone_concerns_no_product():
    assert not Policy(master_weights="bf16").rounds_products


def test_only_one_preset_is_meant_for_loss_scaling():
    assert Policy.fp16_loss_scaling().loss_scaling
    assert dataclasses.replace(Policy.fp16_loss_scaling(), loss_scaling=False) == Policy.fp16()


def test_a_format_takes_the_policys_mode_a_rounding_its_own():
    policy = Policy(weights="bf16", activations_in=Rounding(Format(4, 3)), mode="toward_zero")
    assert policy.weights == Rounding("bf16", "toward_zero")
    assert policy.activations_in == Rounding(Format(4, 3), "nearest_even")


def test_a_policy_is_changed_by_replace():
    changed = dataclasses.replace(Policy.paper(), exempt=("fc",))
    assert changed.exempt == ("fc",)
    assert rounded(changed) == rounded(Policy.paper())
    assert changed != Policy.paper()


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"wieghts": "bf16"}, ["'wieghts' is unknown", "weights, activations_in", "embeddings"]),
        ({"weights": "bf61"}, ["role weights", "'bf61' is unknown", "bf16, fp16"]),
        ({"embeddings": Rounding("bf16", "up")}, ["role embeddings", "'up' is unknown", "toward_zero"]),
        ({"weights": "bf16", "mode": "down"}, ["role weights", "'down' is unknown", "stochastic"]),
        ({"weights": [8, 7]}, ["role weights", "[8, 7]", "expected a name or"]),
        ({"weights": (9, 7)}, ["role weights", "9 exponent bits", "2 to 8"]),
        ({"exempt": "fc"}, ["exempt is 'fc'", "a tuple of names"]),
        ({"seed": -1}, ["seed is -1", "expected 0 to"]),
        ({"seed": 0.5}, ["seed is 0.5"]),
    ],
)
def test_what_does_not_exist_is_named_with_what_does(arguments, words):
    with pytest.raises(ValueError) as error:
        Policy(**arguments)
    for word in words:
        assert word in str(error.value)


def test_asking_for_an_unknown_role_is_an_error():
    with pytest.raises(ValueError, match="role 'bias' is unknown, expected one of weights"):
        Policy.paper().of("bias")
