"""Measurements of the running product: real servers, real photographs, ratios rather than seconds where possible."""
