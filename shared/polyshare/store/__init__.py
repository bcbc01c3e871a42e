"""The object store: `s3.S3Store` on anything that speaks S3, `memory.MemoryStore` for tests and simulation."""
