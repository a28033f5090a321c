"""Measurements of Lorimer beside its peers, on one machine in one run."""
