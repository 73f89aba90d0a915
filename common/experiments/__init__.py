"""What needs no platform: rank a folder, watch one, select by your own features, replay active learning."""
