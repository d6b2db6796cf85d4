"""Layers on the compiled engine, the parameter vector, and views of the parameters."""
