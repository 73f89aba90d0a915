"""Label Studio: the ML-backend protocol and the Platform port. Never imports the other adapter."""
