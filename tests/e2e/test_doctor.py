"""`falco-streamer doctor` on a terminal: whoever waits sees for whom."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import yaml

from tests.e2e.program import Program


def test_on_a_terminal_it_says_for_whom_it_waits_and_leaves_nothing_of_that(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
                    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
                    "users": [{"name": "c", "user": {}}],
                }
            )
        )
        arguments = (
            "cluster=e2e",
            f"kubernetes.kubeconfig={kubeconfig}",
            f"kafka.bootstrap_servers=127.0.0.1:{silent.getsockname()[1]}",
        )
        flags = [part for argument in arguments for part in ("--set", argument)]
        with Program("doctor", *flags, terminal=True) as doctor:
            doctor.until("waiting for Kafka …")
            assert doctor.end() == 69, doctor.text
    shown = re.sub(r"[^\n]*\r\x1b\[K", "", doctor.text)  # what such a line leaves behind
    assert "waiting" not in shown
    plain = re.sub(r"\x1b\[\d*m", "", shown)
    assert (
        "AWAY   the API server http://127.0.0.1:1: cannot reach the API server: connection refused" in plain
    )
    assert "AWAY   cannot reach 127.0.0.1:" in plain
