"""Command line of nnc: `nnc demo`, `nnc inspect FILE`, ...; `nnc --help` lists all commands."""
