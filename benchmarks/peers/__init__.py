"""The other engines, each in an environment of its own made by `environment`."""
