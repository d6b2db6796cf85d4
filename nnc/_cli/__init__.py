"""The command line: `nnc demo`, `nnc inspect FILE`, ...; `nnc --help` lists everything."""
