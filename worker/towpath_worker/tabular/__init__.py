"""Learning from tables: columns, their encoding, the model types, how good a model is."""
