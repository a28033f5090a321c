"""/v1/fine_tuning/jobs, in OpenAI's shape."""
