"""The test bed: real parts on loopback, for tests, benchmarks and `make testbed`.

A Kafka broker, etcd and a kube-apiserver, each the genuine program at a pinned version, and a log endpoint
with the kubelet's own reader of log files behind it. Nothing in here imitates what it tests against.
`parts` builds them (once, cached outside the repository), `process` runs them (never left behind),
one module each knows how to start them, `cluster` writes pods and their logs.
"""

from tests.testbed.parts import BuildError, PartMissing
from tests.testbed.process import StartError

__all__ = ["BuildError", "PartMissing", "StartError"]
