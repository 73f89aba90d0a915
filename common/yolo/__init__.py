"""Detectors and trainings with ultralytics: the only package that knows ultralytics and torch.

Importing it, or any of its modules, imports neither: both come in when a model is first needed, through
``offline.load``, and only after ``offline.prepare`` has closed the network.
"""
