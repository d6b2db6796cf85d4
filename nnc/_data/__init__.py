"""What comes in: X, y and weights, checked, scaled and split; and how good what comes out is."""
