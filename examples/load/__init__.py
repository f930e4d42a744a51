"""An open-loop client: requests leave on a schedule that does not wait for answers."""
