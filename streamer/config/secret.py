"""Secrets: given as text or as a file, read when they are used, never printed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

HIDDEN = "(secret)"


class HiddenText(SecretStr):
    """Text that prints as `(secret)`, however long it is."""

    def _display(self) -> str:
        return HIDDEN


class SecretError(Exception):
    """A secret's file cannot be used; the message names the key and the file, never the content."""


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a secret comes from: its text, or a file that may change while we run."""

    key: str
    text: SecretStr | None = None
    file: Path | None = None

    def read(self) -> str:
        """The secret as it is now. A file is read again at each call, so that a rotated one takes effect."""
        if self.file is None:
            if self.text is None:
                raise SecretError(f"`{self.key}` and `{self.key}_file` are both missing")
            return self.text.get_secret_value()
        try:
            # Editors and `kubectl create secret --from-file` leave a newline that is not part of the secret.
            secret = self.file.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise SecretError(f"`{self.key}_file`: {self.file} is not UTF-8 text") from None
        except OSError as error:
            raise SecretError(f"`{self.key}_file`: cannot read {self.file}: {error.strerror}") from None
        if not secret or "\n" in secret:
            fault = "has more than one line" if secret else "is empty"
            raise SecretError(f"`{self.key}_file`: {self.file} {fault}")
        return secret
