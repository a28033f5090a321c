"""The bottom layer: stores, logs, manifests, versions, aliases, jobs and captures. Imports no torch."""
