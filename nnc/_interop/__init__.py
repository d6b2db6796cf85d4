"""Networks in the formats of others."""
