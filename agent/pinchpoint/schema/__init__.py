"""What the serving process and the agent agree on: pure data, no clock, no I/O."""
