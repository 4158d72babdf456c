"""The settings: what they are, and how they come from a file, the environment and the command line.

Settings are frozen and complete once they exist: every key in them is valid. A key that the worker
does not honour is not accepted. Secrets are never printed; they are read when they are used.
"""

from streamer.config.errors import ConfigError, Problem
from streamer.config.loading import REQUIRED, load
from streamer.config.naming import TopicNames, TopicSpec
from streamer.config.secret import Secret, SecretError
from streamer.config.settings import Settings
from streamer.config.topics import OPTIONAL_SETTINGS

__all__ = [
    "OPTIONAL_SETTINGS",
    "REQUIRED",
    "ConfigError",
    "Problem",
    "Secret",
    "SecretError",
    "Settings",
    "TopicNames",
    "TopicSpec",
    "load",
]
