"""The commands. Data goes to stdout, all else to stderr; exit codes are a contract (streamer.cli.exits)."""

from streamer.cli.main import main

__all__ = ["main"]
