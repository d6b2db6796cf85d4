"""Model: layers on the compiled engine, the parameter vector and views of it."""
