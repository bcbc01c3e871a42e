"""Jobs: ingest, training and translation, run on verified inputs without network or credentials."""
