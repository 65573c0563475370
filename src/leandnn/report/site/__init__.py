"""The web site: everything there is to see, as static HTML."""
