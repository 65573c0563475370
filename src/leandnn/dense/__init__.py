"""Dense nets near convergence, beside which sparse and low-precision ones are judged."""
