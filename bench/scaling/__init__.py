"""Past one machine: the same load on SQLite, on PostgreSQL, and on PostgreSQL with several schedulers."""
