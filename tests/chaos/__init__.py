"""The whole worker on real parts under a seeded schedule of faults, and a judge who reads what came of it.

`make chaos MINUTES=n SEED=s` runs it at length; `test_chaos` is a short selection for every run of the tests.
`schedule` says what is done (pure: the same seed gives the same steps), `conductor` does it, `load` prints the
alerts and keeps the journal, `judge` compares the journal with the topics and the state, with nothing of ours.
"""
