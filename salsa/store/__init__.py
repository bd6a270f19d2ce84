"""Where results live: their identity (fingerprint), their files (artifact) and who works on them (lock)."""
