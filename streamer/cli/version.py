"""`falco-streamer version`: which release this is, for people and for programs."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Final

import click
import orjson

from streamer import __version__

_LIBRARIES: Final = ("aiohttp", "aiokafka", "kubernetes", "orjson", "pydantic", "uvloop")
"""Those whose release matters when something goes wrong."""


@click.command(
    epilog="""\b
Examples:
  falco-streamer version
  falco-streamer version -o json | jq -r .version
"""
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: includes whether the core is compiled, and the versions of Python, libraries and stored state.",
)
def version(output: str) -> None:
    """Print the version."""
    if output == "text":
        click.echo(f"falco-streamer {__version__}")
        return
    from streamer.telemetry.build import CORE
    from streamer.transform.state import FORMAT

    shown = {
        "name": "falco-streamer",
        "version": __version__,
        "core": CORE,
        "state_format": FORMAT,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": {name: metadata.version(name) for name in _LIBRARIES},
    }
    click.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2))
