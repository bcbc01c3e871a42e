"""The embedded stack: everything polyshare needs, on one machine, in one folder, under one supervisor."""
