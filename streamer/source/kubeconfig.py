"""Why a kubeconfig leads nowhere, in words that name the file and the fix: the library's own name neither."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from streamer.config.error_messages import suggestion

_DEFAULT: Final = "~/.kube/config"


def trouble(given: Path | None, context: str | None, error: Exception) -> str:
    """What is wrong, where the files were not taken for `error`. `given` and `context` are as in the settings."""
    paths = _paths(given)
    there = [path for path in paths if path.exists()]
    if not there:
        return _nothing_there(given, paths)
    read: list[Mapping[str, Any]] = []
    for path in there:
        content = _read(path)
        if isinstance(content, str):
            return content
        read.append(content)
    named = ":".join(map(str, there))
    return f"{named}: {_context_trouble(read, context) or error}"


def _paths(given: Path | None) -> list[Path]:
    """The files that are looked into, as kubectl has it."""
    text = str(given) if given is not None else os.environ.get("KUBECONFIG") or _DEFAULT
    return [Path(path).expanduser() for path in text.split(os.pathsep) if path]


def _nothing_there(given: Path | None, paths: Sequence[Path]) -> str:
    named = ":".join(map(str, paths))
    if given is not None:
        return f"there is no file {named}; set kubernetes.kubeconfig to yours"
    found = f"KUBECONFIG names {named}, which is not there" if os.environ.get("KUBECONFIG") else f"no {named}"
    return (
        f"no service account, as pods have it, and {found}; set kubernetes.kubeconfig, or run in a pod with a service "
        "account (automountServiceAccountToken)"
    )


def _read(path: Path) -> Mapping[str, Any] | str:
    """What is in a kubeconfig, or what is wrong with it as a file."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        return f"{path} cannot be read: {(error.strerror or str(error)).lower()}"
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        return f"{path}{place} is not valid YAML: {error.problem or error.context}"
    except (yaml.YAMLError, UnicodeDecodeError):
        return f"{path} is not text"
    if content is None:
        return f"{path} is empty"
    return content if isinstance(content, dict) else f"{path} is not a kubeconfig: expected a mapping"


def _context_trouble(read: Sequence[Mapping[str, Any]], context: str | None) -> str:
    """What is wrong with the choice of a context; "" if nothing is."""
    names = [
        str(one["name"])
        for content in read
        for one in content.get("contexts") or ()
        if isinstance(one, dict) and "name" in one
    ]
    if not names:
        return "it has no contexts: is it a kubeconfig?"
    current = [str(content["current-context"]) for content in read if content.get("current-context")]
    choice = f"set kubernetes.context to one of {', '.join(sorted(names))}"
    if context is not None:
        if context in names:
            return ""
        return f"it has no context `{context}`{suggestion(context, names, ', ')}; {choice}"
    if not current:
        return f"it has no current-context; {choice}"
    if current[-1] not in names:
        return f"its current-context `{current[-1]}` is not among its contexts; {choice}"
    return ""
