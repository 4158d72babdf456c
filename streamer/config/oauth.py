"""Settings: where the tokens of the SASL mechanism OAUTHBEARER come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

from pydantic import Field, ValidationInfo, field_serializer, field_validator

from streamer.config.faults import MISSING, USELESS, Fault, FaultsError
from streamer.config.secret import HIDDEN, HiddenText, Secret
from streamer.config.section import FilePath, Matching, Section, Text

Endpoint = Annotated[
    str, Matching(r"https?://[^\s/?#@]+[^\s@]*", "an address such as `https://idp.example/oauth2/token`")
]
ClassPath = Annotated[
    str,
    Matching(
        r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", "a class as `module:Class`, such as `msk_iam:Provider`"
    ),
]

_NEEDED: Final = ("token_endpoint", "client_id")


class OAuth(Section):
    """A token endpoint for the client-credentials flow, or a class of one's own."""

    token_endpoint: Endpoint | None = Field(
        default=None, description="Address of the identity provider's token endpoint."
    )
    client_id: Text | None = Field(default=None, description="Who we are to the token endpoint.")
    client_secret: HiddenText | None = Field(
        default=None, min_length=1, description="The client's secret; better given as a file or a variable."
    )
    client_secret_file: FilePath | None = Field(
        default=None,
        description="Path of a file that holds the secret, instead of `client_secret`; read for each token.",
    )
    scope: Text | None = Field(
        default=None, description="The scope to ask for; several are parted by spaces. Null: none."
    )
    ca_file: FilePath | None = Field(
        default=None,
        description="Path of the PEM file with the authorities that may sign the token endpoint's certificate. "
        "Null: the system's.",
    )
    provider: ClassPath | None = Field(
        default=None,
        description="A class of your own that gives tokens, as `module:Class`, instead of a token endpoint: made "
        "without arguments, asked by its method `token()`, plain or async, at each connection (docs/security.md "
        "has one for AWS MSK IAM).",
    )

    @field_validator("client_secret_file")
    @classmethod
    def _one_secret(cls, file: FilePath | None, info: ValidationInfo) -> FilePath | None:
        if file is not None and info.data.get("client_secret") is not None:
            raise FaultsError(
                [Fault((), "expected either `client_secret` or `client_secret_file`, got both")]
            )
        return file

    @field_serializer("client_secret", when_used="json-unless-none")
    def _hide(self, _secret: HiddenText) -> str:
        return HIDDEN

    @property
    def secret(self) -> Secret:
        """The client's secret, to be read at use."""
        return Secret("kafka.security.sasl.oauth.client_secret", self.client_secret, self.client_secret_file)

    def faults(self) -> Iterator[Fault]:
        """What is missing or useless where tokens are to be had from here."""
        if self.provider is not None:
            for name, field in OAuth.model_fields.items():
                if name != "provider" and getattr(self, name) != field.default:
                    yield Fault((name,), "`provider` makes no use of it", USELESS)
            return
        for name in _NEEDED:
            if getattr(self, name) is None:
                yield Fault((name,), "`mechanism: OAUTHBEARER` needs it, or `provider`", MISSING)
        if self.client_secret is None and self.client_secret_file is None:
            reason = "`mechanism: OAUTHBEARER` needs it, or `client_secret_file`, or `provider`"
            yield Fault(("client_secret",), reason, MISSING)
