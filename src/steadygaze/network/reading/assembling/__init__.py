"""What both readers share: operations as model files mean them, made into nodes of a graph."""
