"""One module per verdict: evidence to finding."""
