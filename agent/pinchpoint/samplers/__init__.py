"""Sources of samples, one per file, read inside the serving process at about 1 Hz.

They hold descriptors and thread ids: after a fork, build them anew and close the old ones.
"""
