"""What the agent shows: series at `/metrics`, the verdict as JSON, health."""
