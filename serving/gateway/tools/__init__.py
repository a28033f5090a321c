"""Function calling: which way a base's template writes calls, what may be called, and calls read from an answer."""
