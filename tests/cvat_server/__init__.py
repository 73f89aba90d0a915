"""A stand-in for CVAT 2.73, for tests: real HTTP on localhost, driven by the real cvat-sdk."""
