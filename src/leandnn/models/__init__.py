"""Networks the studies train."""
