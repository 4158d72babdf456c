"""falco-streamer: Falco's alerts from Kubernetes pod logs to Kafka, exactly once."""

__version__ = "0.1.0"
