"""Many networks at once: trained in one call, as an ensemble, as a search."""
