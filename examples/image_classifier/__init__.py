"""A gRPC server that classifies JPEG images: the kind of service Pinchpoint watches.

It knows nothing of Pinchpoint and has no instrumentation of its own.
"""
