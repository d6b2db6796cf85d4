"""Pictures that need no other package: networks and curves as SVG, curves in characters, HTML tables for notebooks."""
