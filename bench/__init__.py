"""Measurements of Pinchpoint. README.md says how to read the figures."""
