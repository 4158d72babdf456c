"""Ownership: a shard has its targets' positions, a ledger, and one task that commits both with the alerts.

It knows neither Kubernetes nor Kafka: batches come through its inbox, publications leave through a publisher.
"""
