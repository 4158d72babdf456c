"""Asyncio parts that know neither Kubernetes nor Kafka: waiting, handing over, stopping.

Each says what cancellation does to it. None starts a task of its own.
"""
