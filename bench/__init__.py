"""How quick Towpath is beside its peers and beside a bare toy of its own design: `make bench`."""
