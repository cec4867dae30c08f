"""valetkey: agents call any LLM provider through this gateway without ever holding a key."""

__version__ = "0.1.0"
