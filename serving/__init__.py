"""The engine (base, adapters, scheduler) and the HTTP gateway in front of it."""
