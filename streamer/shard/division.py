"""Whether a stored state is ours, and divided as we are set: by any of its ledgers, before anything is read."""

from __future__ import annotations

from streamer.model import Finding, Verdict
from streamer.transform.load import load
from streamer.transform.state import StateNotOursError, StateUnreadableError


def misfit(cluster: str, shards: int, ledger: bytes | None) -> Finding | None:
    """What is wrong with a state, by one ledger of it; None where nothing is, or nothing is stored.

    A shard that holds nothing yet would not know that its pods have positions elsewhere, and would read them again.
    """
    try:
        if ledger is not None:
            load(cluster, [("ledger", ledger)], shards)
    except StateNotOursError as error:
        return Finding("kafka.topics.state", Verdict.FAULT, str(error))
    except StateUnreadableError:
        pass  # its shard says what is wrong with it, and the others can work
    return None
