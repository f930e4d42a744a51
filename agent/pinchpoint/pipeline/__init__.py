"""Observations in, verdicts and snapshots out. Pure: the same code runs in production, in
replay and in the tests.

    observation ─► names ─► methods, failures, streams  (every request)
                         ─► sampled, named_stages       (what it is made of)
                         ─► models                      (forwards, layers)
                         ─► readings                    (samples: counters and gauges)
                         ─► detector ─► verdict ─► shares (cumulative decomposition)
                                                              └─► snapshot
"""

from pinchpoint.pipeline.pipeline import Pipeline

__all__ = ["Pipeline"]
