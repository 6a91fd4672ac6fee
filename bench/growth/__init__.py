"""How figures grow: with depth, parked workers, lanes, payloads, and real work."""
