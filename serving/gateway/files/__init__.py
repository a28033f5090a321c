"""/v1/files: what is uploaded to be trained on."""
