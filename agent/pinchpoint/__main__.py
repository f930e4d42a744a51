"""`python -m pinchpoint` is the `pinchpoint` command."""

from pinchpoint.cli import main

raise SystemExit(main())
