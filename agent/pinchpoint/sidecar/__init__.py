"""The agent: attaches rings, feeds the pipeline, publishes what it says."""
