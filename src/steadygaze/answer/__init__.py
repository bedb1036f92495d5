"""The answer as plain records: what is written, and what it says in words. No torch."""
