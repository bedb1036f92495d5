"""How a question is judged: the driver and its budget, the engines, the checks, what is read off a map."""
