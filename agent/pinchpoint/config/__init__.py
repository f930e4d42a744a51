"""The agent's configuration. `model` lists every key; `load` reads file, environment and flags.

The probe is not configured here: it reads a few environment variables only.
"""
