"""The web process: answers HTTP, takes hints, never trains and never scores a pool."""
