"""Other servers' own metrics as observations: one file a kind of server."""
