"""How long the follower waits for what, and how much it asks for."""

from __future__ import annotations

from dataclasses import dataclass
from random import random
from typing import Final


@dataclass(frozen=True, slots=True)
class Patience:
    """All times in seconds."""

    tail_lines: int = 512
    """Lines asked for when going on: as a rule the break was short."""
    longer_tail_lines: int = 8192
    quiet_seconds: float = 1.0
    """So long silent after a catch-up, a stream is checked: was that all? So long a pause, and its replay is over."""
    silent_seconds: float = 30.0
    """No byte for so long, a stream that has more to bring has died."""
    empty_seconds: float = 5.0
    """The same where the log's file is empty: a rotation was seen, and the next line may be missed."""
    probe_seconds: float = 35.0
    """The same for a stream that had all there was when it was last checked: at first, and while it is as silent as it
    used to be. Each check that finds nothing doubles it."""
    probe_most_seconds: float = 600.0
    """5,000 streams that stay silent are checked 8 times a second."""
    probe_pauses: float = 20.0
    """A stream is checked when it has been silent for so many of its usual pauses."""
    together_seconds: float = 0.25
    """Whose turns come within so long are asked together: code that was run just before costs half as much."""
    answer_seconds: float = 8.0
    """Within so long a doubt is settled, or put off."""
    stalled_seconds: float = 2.0
    """A line that the log has and the stream does not bring within so long: it never will."""
    ending_seconds: float = 0.5
    """So long after its container's end a stream may still be open and silent."""
    lively_seconds: float = 1.5
    """Silent for no longer at its end, a stream had not stalled: the kubelet looks every second whether it is over,
    and the pod object stays longer than that."""
    renew_seconds: float = 3 * 3600.0
    """A stream's age when it is replaced: the kubelet ends it after 4 h."""
    behind_seconds: float = 20.0
    """Being behind for longer, two rotations may have passed: the kubelet looks at log sizes every 10 s."""
    rotation_seconds: float = 8.0
    """Two rotations of a log are at least so far apart, with some allowance."""
    begin_seconds: float = 10.0
    """A log whose first line is so much younger than its container may have been rotated before it was read."""
    departed_seconds: float = 5.0
    """The watch may tell of a deletion so much later than a request for the pod does."""
    status_seconds: float = 5.0
    """A pod's status may be so much older than its log."""
    forbidden_seconds: float = 30.0
    """While the logs of a namespace are forbidden, one of its targets tries again so often, or sooner."""
    start_seconds: float = 600.0
    """A container that has not started is waited for by the watch; after so long its pod is requested all the same."""
    outage_seconds: float = 60.0
    """While an outage lasts for less, its end is looked for every second."""

    def seconds_to_probe(self, probes: int, mean_pause_seconds: float | None) -> float:
        """How long from now on a stream may be silent before it is checked again; spread.

        `probes`: how often in a row it had nothing more. `mean_pause_seconds`: how long it used to be silent.
        """
        base = max(self.probe_seconds, self.probe_pauses * (mean_pause_seconds or 0.0))
        return min(self.probe_most_seconds, base * 2.0 ** min(probes, 10)) * (0.8 + 0.4 * random())

    def seconds_after_lines(self, wait_seconds: float, mean_pause_seconds: float | None) -> float:
        """How long a stream that has just brought lines may be silent, where `wait_seconds` were left before.

        A busy one is checked soon: its log may be rotated soon, and then a deletion would leave nothing to compare.
        """
        usual_seconds = self.probe_pauses * (
            self.probe_seconds if mean_pause_seconds is None else mean_pause_seconds
        )
        if usual_seconds >= self.probe_seconds:
            return wait_seconds
        return min(wait_seconds, max(self.quiet_seconds, usual_seconds))


PATIENCE: Final = Patience()
EMPTY_PROBES: Final = 12
"""So often in a row an empty file is looked at in haste; after that it is as quiet as any other."""
