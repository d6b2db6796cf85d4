"""Tables: frames, cells, dates, text and the encoding of their columns as inputs of a network; without scikit-learn."""
