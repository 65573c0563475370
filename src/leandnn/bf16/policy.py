"""Where values are rounded in one training step, role by role."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Policy:
    """The format of each role around a GEMM-class operation; None keeps FP32.

    - weights: working copy of the parameters that enter the product (the master copy stays FP32).
    - activations: the other operands, and the operation's output.
    - gradients: the incoming gradient of the output, and the data gradient that the operation sends back.

    Products are summed in FP32. The weight gradient, the bias (and its gradient), normalisation,
    element-wise operations, the loss, the update and the master weights are FP32.
    """

    weights: str | None = None
    activations: str | None = None
    gradients: str | None = None

    @classmethod
    def fp32(cls) -> Policy:
        """No rounding at all: the control."""
        return cls()

    @classmethod
    def paper(cls) -> Policy:
        """The tensor flow of the paper's figure: BF16, round to nearest even, for all three roles.

        Source: arXiv 1905.12322, figure of the mixed-precision data flow: converters Q sit at the working
        weights, the forward output and the data-gradient output; the weight gradient has none. Operands that
        come from an FP32 operation between two products (batch-norm, ReLU, residual sum) are rounded as they
        enter the product, since a BF16 unit can take nothing else.
        """
        return cls(weights="bf16", activations="bf16", gradients="bf16")
