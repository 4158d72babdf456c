"""`kubernetes.aio`'s configuration and credentials, at a third of what importing them costs.

Its packages import all that they hold: the synchronous client with requests, oauthlib and urllib3, watches, leader
election. That is a quarter of a worker's start, and nothing of it is used. Both packages are therefore entered in
`sys.modules` without being run; their modules are imported from them as usual.
"""

from __future__ import annotations

import importlib.util
import sys


def _enter(name: str) -> None:
    """Make a package known without running its `__init__`, unless somebody has imported it already."""
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"{name} is a dependency"
    sys.modules[name] = package = importlib.util.module_from_spec(spec)
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, package)


_enter("kubernetes")
_enter("kubernetes.aio")

from kubernetes.aio.client import ApiClient, Configuration  # noqa: E402
from kubernetes.aio.config import ConfigException, kube_config, load_incluster_config  # noqa: E402
from kubernetes.aio.config.dateutil import parse_rfc3339  # noqa: E402

__all__ = [
    "ApiClient",
    "ConfigException",
    "Configuration",
    "kube_config",
    "load_incluster_config",
    "parse_rfc3339",
]
