"""Drift: observations, references, detectors, episodes and triggers. Knows the registry, not the engine."""
