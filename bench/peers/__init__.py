"""The peers: what they are, and how Towpath's bench runs each of them as its users do."""
