"""How far networks classify with the same basis, and what it costs to prove: see README.md."""
