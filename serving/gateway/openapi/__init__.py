"""The OpenAPI document, made from the routes and from the structs that their bodies are decoded into."""
