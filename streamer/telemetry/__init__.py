"""What is said of the work: logs now, metrics and health later. One function a fact.

Nothing here decides anything. Contents of alerts and secrets never appear above debug.
"""
