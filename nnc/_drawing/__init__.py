"""What people look at without any other package: networks and curves as SVG and in characters, tables for notebooks."""
