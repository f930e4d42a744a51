"""The memory-mapped ring between a serving process and the agent. README.md beside this
file has the memory map and the failure table."""
