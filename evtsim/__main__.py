"""``python -m evtsim`` is the command line."""

from evtsim.cli import main

main()
