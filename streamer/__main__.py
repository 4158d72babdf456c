"""`python -m streamer` is `falco-streamer`."""

from streamer.cli import main

main()
