"""The machine's fused multiply-add peak, against which kernels are judged."""
