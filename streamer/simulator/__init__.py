"""A Kubernetes API server as far as falco-streamer uses one, with pods that print Falco's alerts.

Its law: it knows nothing of the rest of `streamer` and imports nothing of it; it answers as the real
server answers (the contract tests hold both to one suite), and it goes wrong only where a script of
`faults` says so. State changes are plain calls on `Cluster`; only the server awaits.
"""

from streamer.simulator.alerts import AlertGenerator
from streamer.simulator.cluster import Cluster
from streamer.simulator.server import SimulatedApiServer

__all__ = ["AlertGenerator", "Cluster", "SimulatedApiServer"]
