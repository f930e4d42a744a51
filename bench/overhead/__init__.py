"""What the probe costs: end to end on the demo server, and per call in the process."""
