"""The viewer: one more `read_committed` consumer of the topics, which serves a page of what was published.

All but `feed`, `live` and `server` is pure: what time it is arrives as an argument. `store` joins counts, the last
records and what health records say; `feed` reads Kafka into it, and `server` shows it. It writes nothing anywhere.
"""
