"""The detector: pure. Time arrives in the observations; no clock, I/O, threads, randomness
or logging, so that production, replay and the benchmark run the same code.

    window ─► features ─► decomposition ─┐
                      └─► reference ─────┼─► mechanisms ─► (replay_model) ─► verdict
"""
