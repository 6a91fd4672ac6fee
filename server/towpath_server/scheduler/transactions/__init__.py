"""What happens inside one commit: synchronous functions over a store, each taking all that arrived together."""
