"""The HTTP face of the engine: OpenAI dialect under /v1, registry and monitoring under /api."""
