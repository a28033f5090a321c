"""Adapters on their way in from anywhere and out to anyone: PEFT folders, Hub snapshots, OCI layouts, signatures."""
