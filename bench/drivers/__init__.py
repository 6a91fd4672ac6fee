"""How to bring rows of jobs into PostgreSQL and out of it: ways and drivers beside each other."""
