"""Where values are rounded in one training step, role by role: to which format, and how."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from leandnn.kernels import Format
from leandnn.kernels.rounding.format import code_of

ROLES = (
    "weights",
    "activations_in",
    "activations_out",
    "data_gradients",
    "weight_gradients",
    "master_weights",
    "embeddings",
)


class Rounding(NamedTuple):
    """A converter Q: what values are rounded to, and how.

    - format: "bf16", "fp16" or a Format.
    - mode: "nearest_even", "toward_zero" or "stochastic", as leandnn.kernels.round_to has them.
    """

    format: str | Format
    mode: str = "nearest_even"


@dataclass(frozen=True, init=False)
class Policy:
    """The rounding of each role around a GEMM-class operation; None keeps FP32.

    - weights: the working copy of a weight that enters a product.
    - activations_in: the other operand, as it enters; both operands of a product without a weight.
    - activations_out: the product's result.
    - data_gradients: the gradient of the result as it comes back, before it is used for anything, and the
      gradient that the operation sends on to an activation.
    - weight_gradients: the gradient that one product makes for its weight.
    - master_weights: what the optimizer has updated, every trained parameter with it. Products are not
      concerned: leandnn.bf16.hook.Emulation rounds it after each update.
    - embeddings: the rows of an embedding table as they are read (the table itself is a master weight).

    A role is given as a Rounding, or as a format that is rounded to by `mode`. And:

    - exempt: names of modules whose products stay FP32, with everything below them; "*" stands for any
      characters. See leandnn.bf16.emulate for what belongs to a module.
    - seed: of the stochastic modes, 0 to 2^63 - 1.
    - loss_scaling: whether training under this policy is meant to scale its loss (what scales is the loop,
      Settings.loss_scaling: emulation does nothing about it).

    Products are summed in FP32. The bias and its gradient, normalisation, element-wise operations, the loss
    and the update itself are FP32. `dataclasses.replace(policy, exempt=("fc",))` changes a policy.

    Raises ValueError for a role, format or mode that does not exist, and says which do.
    """

    weights: Rounding | None
    activations_in: Rounding | None
    activations_out: Rounding | None
    data_gradients: Rounding | None
    weight_gradients: Rounding | None
    master_weights: Rounding | None
    embeddings: Rounding | None
    exempt: tuple[str, ...]
    seed: int
    loss_scaling: bool

    def __init__(
        self,
        *,
        weights: Rounding | Format | str | None = None,
        activations_in: Rounding | Format | str | None = None,
        activations_out: Rounding | Format | str | None = None,
        data_gradients: Rounding | Format | str | None = None,
        weight_gradients: Rounding | Format | str | None = None,
        master_weights: Rounding | Format | str | None = None,
        embeddings: Rounding | Format | str | None = None,
        mode: str = "nearest_even",
        exempt: tuple[str, ...] = (),
        seed: int = 0,
        loss_scaling: bool = False,
        **unknown: object,
    ) -> None:
        if unknown:
            raise ValueError(f"role {next(iter(unknown))!r} is unknown, expected one of {', '.join(ROLES)}")
        given = (
            *(weights, activations_in, activations_out, data_gradients),
            *(weight_gradients, master_weights, embeddings),
        )
        for role, rounding in zip(ROLES, given, strict=True):
            object.__setattr__(self, role, _rounding(role, rounding, mode))
        if not isinstance(exempt, tuple | list) or not all(isinstance(name, str) for name in exempt):
            raise ValueError(f"exempt is {exempt!r}, expected a tuple of names of modules")
        if type(seed) is not int or not 0 <= seed < 2**63:
            raise ValueError(f"seed is {seed!r}, expected 0 to {2**63 - 1}")
        object.__setattr__(self, "exempt", tuple(exempt))
        object.__setattr__(self, "seed", seed)
        object.__setattr__(self, "loss_scaling", bool(loss_scaling))

    def of(self, role: str) -> Rounding | None:
        """The rounding of a role; ValueError, with the roles there are, for any other name."""
        if role not in ROLES:
            raise ValueError(f"role {role!r} is unknown, expected one of {', '.join(ROLES)}")
        rounding: Rounding | None = getattr(self, role)
        return rounding

    @property
    def rounds_products(self) -> bool:
        """Whether anything is rounded in the forward and backward passes."""
        return any(getattr(self, role) for role in ROLES if role != "master_weights")

    @classmethod
    def fp32(cls) -> Policy:
        """No rounding at all: the control."""
        return cls()

    @classmethod
    def paper(cls) -> Policy:
        """The tensor flow of the paper's figure, in BF16 rounded to nearest even.

        Source: arXiv 1905.12322, figure of the mixed-precision data flow: converters Q sit at the working
        weights, the forward output and the data-gradient output; the weight gradient has none, and the master
        weights are FP32. Operands that come from an FP32 operation between two products (batch-norm, ReLU,
        residual sum) are rounded as they enter the product, since a BF16 unit can take nothing else. Embedding
        tables stay FP32, as in the authors' later toolkit.
        """
        return cls._flow("bf16")

    @classmethod
    def truncate(cls) -> Policy:
        """The paper's flow with the lower half of each float32 cut off: BF16 rounded toward zero."""
        return cls._flow("bf16", "toward_zero")

    @classmethod
    def stochastic(cls, seed: int = 0) -> Policy:
        """The paper's flow with BF16 values rounded up or down at random, right on average."""
        return cls._flow("bf16", "stochastic", seed)

    @classmethod
    def no_master(cls, mode: str = "nearest_even", seed: int = 0) -> Policy:
        """The paper's flow without FP32 master weights: every parameter is BF16 after each update.

        - mode: how the updated weight is rounded to BF16. The rest of the flow rounds to nearest even.
        """
        return replace(cls.paper(), master_weights=Rounding("bf16", mode), seed=seed)

    @classmethod
    def fp16(cls) -> Policy:
        """FP16 in BF16's place: the paper's flow in the format of 5 exponent and 10 mantissa bits."""
        return cls._flow("fp16")

    @classmethod
    def fp16_loss_scaling(cls) -> Policy:
        """The same, for training that scales its loss (Micikevicius et al. 2018, arXiv 1710.03740)."""
        return cls._flow("fp16", loss_scaling=True)

    @classmethod
    def _flow(
        cls, fmt: str, mode: str = "nearest_even", seed: int = 0, *, loss_scaling: bool = False
    ) -> Policy:
        return cls(
            weights=fmt,
            activations_in=fmt,
            activations_out=fmt,
            data_gradients=fmt,
            mode=mode,
            seed=seed,
            loss_scaling=loss_scaling,
        )


def _rounding(role: str, given: Rounding | Format | str | None, mode: str) -> Rounding | None:
    if given is None:
        return None
    rounding = given if isinstance(given, Rounding) else Rounding(given, mode)
    try:
        code_of(rounding.format, rounding.mode, False)
    except TypeError:  # not hashable
        raise ValueError(f"role {role}: format is {rounding.format!r}, expected a name or a Format") from None
    except ValueError as error:
        raise ValueError(f"role {role}: {error}") from None
    return rounding
