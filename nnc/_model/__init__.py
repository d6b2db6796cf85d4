"""What a run needs of a network: the layers on a compiled engine, one flat vector of parameters and its views."""
