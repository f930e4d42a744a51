"""One file per command; `cli.COMMANDS` lists them."""
