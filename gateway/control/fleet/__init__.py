"""Several hosts as one fleet: the protocol between hosts and their store.

The protocol is pure functions, which neither do I/O nor read a clock. `scripts` are what the store runs, each
atomically; `host` is one host's state and what it does with a reply; `stop_call` decides when a stop may return;
`leadership` decides who runs a model's controller, and `evidence` what that counts. Simulated and checked exhaustively
by `python -m loadtests fleet_simulation`. `membership` and `shared_releases` do the I/O, over a `store`.

What holds: once a stop is confirmed, no host answers from the candidate in an epoch that was stopped, as long as
- clocks that run differ in rate by at most `Timing.rate_error_ppm`, and no host is frozen between its last look at the
  lease and the end of the send for longer than the margin;
- the store runs each script atomically, on one copy of the data. It may lose data (flush, restart, old snapshot), if
  its run id or the fleet's key changes then, or its revision is lower than one that the host has seen; then a stop
  holds if a host that knows it reaches the store within a lease of the first host that reaches it;
- no host's `when_lost` is `hold`, or all that hold have applied the stop: the stop waits for these, without limit.

Source: Gray & Cheriton, Leases (1989).
"""
