"""What is said of the work: logs, metrics, health. One function a fact.

Nothing here decides anything. Contents of alerts and secrets never appear above debug.
"""
