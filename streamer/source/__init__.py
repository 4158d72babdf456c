"""Where lines come from: Kubernetes pods through the API, or files for `replay`.

The only package that imports `kubernetes` or speaks HTTP to the API server. It hands whole batches over and
knows nothing of alerts, shards or Kafka.
"""
