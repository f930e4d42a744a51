"""A stand-in for the feature store a classifier depends on: plain bytes over gRPC.

``Get`` takes a user id (UTF-8) and answers 16 little-endian floats. ``SetDelay`` takes and answers
a delay in milliseconds as decimal text: the new one in, the former one out.
"""

GET_PATH = "/features.FeatureStore/Get"
SET_DELAY_PATH = "/features.FeatureStore/SetDelay"
