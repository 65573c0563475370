"""The study's domains: data, net and hyper-parameters of each comparison. The arms stand in bf16/arms.py."""
