"""Core values from and to protobuf. Protobuf goes no further into the server than this."""
