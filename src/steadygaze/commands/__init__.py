"""Commands beside ``verify``: each reads what was given, has it done, and says what came of it."""
