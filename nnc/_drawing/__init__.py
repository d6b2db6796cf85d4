"""Drawings without other packages: networks and curves as SVG, sparklines as text, and HTML tables for notebooks."""
