"""The verbs, pure: what is done to a batch of lines, from bytes to records.

Nothing here does I/O, reads a clock, logs, awaits, or knows a client library; what time it is arrives as an
argument or in the data. `process` is the one place where the order of the verbs stands.
"""
