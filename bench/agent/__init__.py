"""What the agent costs, and what the probe's own threads cost the server."""
