"""From a dataset to a published adapter version: check, train, evaluate, gate, publish."""
