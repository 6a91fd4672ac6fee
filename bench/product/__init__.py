"""Towpath's own throughput and latency, in the shapes in which the peers and the toy are measured."""
