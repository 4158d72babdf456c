"""`falco-streamer completion`: Tab in the shell."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

_VARIABLE: Final = "_FALCO_STREAMER_COMPLETE"
"""Click's own: with it, the program answers what could come next. It begins with none of our settings' names."""


@click.command(
    short_help="Print a script that completes commands with Tab.",
    epilog="""\b
Examples:
  source <(falco-streamer completion bash)
  falco-streamer completion zsh > "${fpath[1]}/_falco-streamer"
  falco-streamer completion fish > ~/.config/fish/completions/falco-streamer.fish
""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that completes commands, options and their values."""
    kind = get_completion_class(shell)
    assert kind is not None, "click knows these three"
    program = context.find_root().command
    click.echo(kind(program, {}, "falco-streamer", _VARIABLE).source())
