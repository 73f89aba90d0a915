"""The active-learning core. Knows no annotation platform and no platform SDK."""
